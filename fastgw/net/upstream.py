"""A connection to an endpoint: requests out, answers in. It serves one exchange at a time, and a pool owns it."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING, cast

from fastgw import errors
from fastgw.errors import Failure
from fastgw.exchange import Exchange
from fastgw.http1 import encode
from fastgw.http1.chunked import ChunkedDecoder, encode_chunk, encode_last_chunk
from fastgw.http1.fields import tokens
from fastgw.http1.message import CHUNKED, LENGTH, NO_BODY, Data, ResponseHead
from fastgw.http1.parse import STRAY_LINE_END
from fastgw.http1.parse_response import REMEMBERED_MAX, parse_response, parse_response_again
from fastgw.net import splice
from fastgw.net.clock import FOREVER
from fastgw.net.splice import SPLICE_MIN, Splice
from fastgw.net.tls import TlsEndpoint, end_writing
from fastgw.policy.websocket import GOING_AWAY, FrameTracker, close_frame

if TYPE_CHECKING:
    from fastgw.net.downstream import DownstreamConnection
    from fastgw.net.pool import UpstreamPool

# The reading half.
IDLE = 0  # in the pool
HEAD = 1  # a request is out, its answer's head is not in yet
BODY = 2  # inside an answer's body
SPLICE = 3  # the body goes from socket to socket
TUNNEL = 4  # another protocol; bytes go to the peer
CLOSED = 5

# nginx reads 4 or 8 KiB by default, Envoy 60 KiB; some frameworks set many cookies.
_HEAD_MAX = 64 * 1024
# 1xx answers before the answer; more than these make no sense.
_INFORMATIONAL_MAX = 16
# A longer piece of a body is looked at where it lies.
_COPIED_MAX = 16 * 1024
WRITE_HIGH_WATER = 64 * 1024
# Masks protect from scripts that choose what is sent (RFC 6455 §10.3); what we say ourselves needs no secret one.
_MASK = b"\0\0\0\0"


class UpstreamConnection:
    """One keep-alive connection to an endpoint. It has all methods of an asyncio.Protocol, and not its base: a class
    that is compiled has none that is interpreted."""

    __slots__ = (
        "_buffer",
        "_decoder",
        "_informational",
        "_keep_alive",
        "_pool",
        "_splice",
        "_unsent",
        "congested",
        "conversation",
        "deadline",
        "endpoint_index",
        "endpoint_name",
        "exchange",
        "half_closed",
        "paused",
        "peer",
        "reading",
        "remaining",
        "requests",
        "tls",
        "told",
        "transport",
        "write_deadline",
    )

    def __init__(
        self,
        pool: UpstreamPool,
        endpoint_index: int,
        endpoint_name: str,
        tls: TlsEndpoint | None = None,
        told: bytes = b"",
    ) -> None:
        self._pool = pool
        self.endpoint_index = endpoint_index
        self.endpoint_name = endpoint_name
        # None: plain text.
        self.tls = tls
        # The PROXY header that it began with.
        self.told = told
        self.transport: asyncio.Transport = cast(asyncio.Transport, None)
        self.reading = IDLE
        self.requests = 0
        self.exchange: Exchange | None = None
        # A tunnel: who is at its other end, and, of a WebSocket, what client and upstream have said.
        self.peer: DownstreamConnection | None = None
        self.conversation: tuple[FrameTracker, FrameTracker] | None = None
        # The answer: bytes of a head that is not whole yet, and the body.
        self._buffer = b""
        self._informational = 0
        self._keep_alive = True
        self.remaining = 0
        self._decoder: ChunkedDecoder | None = None
        self.paused = False
        self.deadline = FOREVER
        self.write_deadline = FOREVER
        self._unsent = 0
        # The endpoint does not take what is written.
        self.congested = False
        self._splice: Splice | None = None
        self.half_closed = False

    # From the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=WRITE_HIGH_WATER)
        self._pool.opened(self)

    def data_received(self, data: bytes) -> None:
        exchange = self.exchange
        try:
            if self.reading == HEAD and exchange is not None:
                self._read_head(exchange, data)
            elif self.reading == BODY and exchange is not None:
                self._read_body(exchange, data)
            elif self.reading == TUNNEL and self.peer is not None and exchange is not None:
                exchange.bytes_out += len(data)
                self.touch_tunnel()
                if self.conversation is not None:
                    self.conversation[1].feed(data)
                self.peer.transport.write(data)
            else:
                # Nobody asked: such bytes would be taken for the next request's answer.
                self._close()
        except Exception:
            self._pool.gateway.failed()
            self._close()
            if exchange is not None:
                exchange.crashed()

    def eof_received(self) -> bool:
        if self.reading == TUNNEL and self.peer is not None and self.tls is None:
            return self.peer.end_tunnel_half()
        # The loop answers a close_notify with its own: of TLS, neither half outlives the other then.
        self._lost(clean=True)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        tls = self.tls
        if tls is None:
            self._lost(clean=exc is None)
        elif isinstance(exc, ssl.SSLError) and self.reading != CLOSED:
            # Such as an alert: with TLS 1.3, the word that our certificate is refused comes after the handshake.
            failure = tls.failed(exc)
            if self.reading == HEAD:
                self._fail(failure)
            else:
                self._lost(clean=False)
        else:
            # RFC 9112 §9.8: without a close_notify anybody may have cut it off.
            self._lost(clean=False)

    def pause_writing(self) -> None:
        self.congested = True
        self._unsent = self.transport.get_write_buffer_size()
        self.write_deadline = self._pool.gateway.now() + self._pool.upstream.body_timeout
        if self.peer is not None:
            self.peer.pause_reading()
        elif self.exchange is not None:
            self.exchange.downstream.pause_reading()

    def resume_writing(self) -> None:
        self.congested = False
        self.write_deadline = FOREVER
        if self.peer is not None:
            self.peer.resume_reading()
        elif self.exchange is not None:
            self.exchange.downstream.resume_reading()

    # ports.Upstream: writing requests.

    def send_request(self, exchange: Exchange, first: bytes, complete: bool) -> None:
        self.exchange = exchange
        self.reading = HEAD
        self.requests += 1
        head = encode.request_head(exchange.request, exchange.target, exchange.host, exchange.fields)
        if exchange.request.body == CHUNKED:
            if first:
                first = encode_chunk(first)
            if complete:
                first += encode_last_chunk(exchange.pending_trailers)
        self.transport.write(head + first if first else head)
        if complete or exchange.request.expects_continue:
            self.deadline = exchange.upstream_started + self._pool.upstream.response_timeout
        else:
            self.deadline = FOREVER

    def send_body(self, data: bytes) -> None:
        if self.reading == HEAD:
            self.deadline = FOREVER
        request = cast(Exchange, self.exchange).request
        self.transport.write(encode_chunk(data) if request.body == CHUNKED else data)

    def end_body(self, trailers: bytes) -> None:
        if cast(Exchange, self.exchange).request.body == CHUNKED:
            self.transport.write(encode_last_chunk(trailers))
        if self.reading == HEAD:
            self.deadline = self._pool.gateway.now() + self._pool.upstream.response_timeout

    def pause_reading(self) -> None:
        if not self.paused and self.reading not in (CLOSED, SPLICE):
            self.paused = True
            self.transport.pause_reading()
            # The client's time runs now, not ours.
            self.deadline = FOREVER

    def resume_reading(self) -> None:
        if self.paused and self.reading not in (CLOSED, SPLICE):
            self.paused = False
            self.transport.resume_reading()
            upstream, now = self._pool.upstream, self._pool.gateway.now()
            if self.reading == BODY:
                self.deadline = now + upstream.body_timeout
            elif self.reading == HEAD and self.exchange is not None and self.exchange.request_complete:
                self.deadline = now + upstream.response_timeout

    def discard(self) -> None:
        self._stop_splice()
        self.exchange = None
        self._close()

    # Reading answers.

    def _read_head(self, exchange: Exchange, data: bytes) -> None:
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        rest: Data
        if len(data) <= _COPIED_MAX:
            head, mark, rest = data.partition(b"\r\n\r\n")
        else:
            head, mark, rest = _partition_view(data)
        if not mark or len(head) > _HEAD_MAX:
            if len(data) > _HEAD_MAX:
                self._fail(errors.UPSTREAM_HEAD_TOO_LARGE)
            elif STRAY_LINE_END.search(data) is not None:
                self._fail(errors.UPSTREAM_MALFORMED)
            else:
                self._buffer = data
            return
        to_head = exchange.request.method == b"HEAD"
        parse = parse_response_again if len(head) <= REMEMBERED_MAX else parse_response
        response = parse(head, to_head)
        if isinstance(response, Failure):
            self._fail(response)
            return
        if response.status < 200:
            self._read_informational(exchange, response, bytes(rest))
            return
        self._keep_alive = response.keep_alive
        body = response.body
        if body == LENGTH:
            remaining = response.content_length - len(rest)
            if remaining > 0:
                self._begin_body(remaining)
                exchange.response_head(response, rest, False)
                # Not `exchange`: that may have been a second try, whose answer was taken over.
                if remaining >= SPLICE_MIN and self.exchange is not None:
                    self._prepare_splice(self.exchange)
                return
            if remaining < 0:
                # Bytes after the answer are nobody's; the connection can't be used again.
                self._keep_alive = False
                rest = rest[:remaining]
            self._complete(exchange)
            exchange.response_head(response, rest, True)
        elif body == NO_BODY:
            if rest:
                self._keep_alive = False
            self._complete(exchange)
            exchange.response_head(response, b"", True)
        elif body == CHUNKED:
            self._begin_chunks(exchange, response, bytes(rest))
        else:
            self._begin_body(-1)
            exchange.response_head(response, rest, False)

    def _read_informational(self, exchange: Exchange, response: ResponseHead, rest: bytes) -> None:
        if response.status == 101:
            # RFC 9110 §15.2.2: only what was asked for.
            switched = tokens(response.upgrade)
            is_asked_for = switched and set(switched) <= set(tokens(exchange.request.upgrade))
            # §7.8: and not before the request is complete.
            if not is_asked_for or not exchange.request_complete:
                self._fail(errors.UPSTREAM_MALFORMED)
                return
            exchange.switched_protocols(response, rest)
            return
        if not exchange.request_complete:
            # It has agreed to the body (RFC 9110 §10.1.1), and waits for it now.
            self.deadline = FOREVER
        self._informational += 1
        if self._informational > _INFORMATIONAL_MAX:
            self._fail(errors.UPSTREAM_MALFORMED)
            return
        exchange.response_informational(response)
        if rest and self.exchange is exchange:
            self._read_head(exchange, rest)

    def _begin_body(self, remaining: int) -> None:
        self.reading = BODY
        self.remaining = remaining
        self.deadline = self._pool.gateway.now() + self._pool.upstream.body_timeout

    def _begin_chunks(self, exchange: Exchange, response: ResponseHead, data: bytes) -> None:
        decoder = ChunkedDecoder()
        first = b"".join(decoder.feed(data))
        if decoder.broken:
            self._fail(errors.UPSTREAM_MALFORMED)
        elif decoder.complete and not decoder.trailers:
            if decoder.rest:
                self._keep_alive = False
            self._complete(exchange)
            exchange.response_head(response, first, True)
        else:
            self._decoder = decoder
            self._begin_body(0)
            exchange.response_head(response, first, False)
            # As above.
            if decoder.complete and self.exchange is not None:
                self._end_chunks(self.exchange, decoder)

    def _read_body(self, exchange: Exchange, data: bytes) -> None:
        decoder = self._decoder
        if not self.paused:
            self.deadline = self._pool.gateway.now() + self._pool.upstream.body_timeout
        if decoder is not None:
            piece = b"".join(decoder.feed(data))
            if piece:
                exchange.response_body(piece)
            if self.exchange is not exchange:
                return
            if decoder.broken:
                self._fail(errors.UPSTREAM_MALFORMED)
            elif decoder.complete:
                self._end_chunks(exchange, decoder)
            return
        if self.remaining < 0:
            exchange.response_body(data)
            return
        remaining = self.remaining - len(data)
        if remaining > 0:
            self.remaining = remaining
            exchange.response_body(data)
            if remaining >= SPLICE_MIN and self.exchange is exchange:
                self._prepare_splice(exchange)
            return
        if remaining < 0:
            self._keep_alive = False
            data = data[:remaining]
        exchange.response_body(data)
        if self.exchange is exchange:
            self._complete(exchange)
            exchange.response_end(b"")

    # Splicing an answer's body.

    def _prepare_splice(self, exchange: Exchange) -> None:
        """Stops reading; when the loop has written what the client is due already, the kernel takes over."""
        if self.reading != BODY or self.paused or self.remaining < SPLICE_MIN or not splice.AVAILABLE:
            return
        if self.tls is not None or exchange.downstream.session is not None:
            return
        self.reading = SPLICE
        self.transport.pause_reading()
        self._pool.loop.call_soon(self._begin_splice, exchange)

    def _begin_splice(self, exchange: Exchange) -> None:
        if self.reading != SPLICE or self.exchange is not exchange:
            return
        sink = exchange.downstream.splice_end()
        source = splice.plain_descriptor(self.transport)
        if sink is None or source < 0:
            # The client is slow.
            self._read_on(exchange)
            return
        pool, remaining = self._pool, self.remaining
        ends = (source, pool.upstream.body_timeout)
        try:
            self._splice = Splice(pool.loop, pool.sweep, pool.gateway.now, ends, sink, remaining, self._splice_ended)
        except OSError:
            # There are no more descriptors.
            self._read_on(exchange)
            return
        self.deadline = FOREVER

    def _read_on(self, exchange: Exchange) -> None:
        """No splice: the ordinary way."""
        self.reading = BODY
        self.transport.resume_reading()
        if exchange.downstream.congested:
            self.pause_reading()

    def _splice_ended(self, outcome: int) -> None:
        moved, exchange = self._stop_splice(), self.exchange
        if exchange is None:
            return
        self.remaining -= moved
        if outcome == splice.DONE:
            self.reading = BODY
            self.transport.resume_reading()
            self._complete(exchange)
            exchange.response_end(b"")
        elif outcome in (splice.SINK_BROKE, splice.SINK_STALLED):
            self.exchange = None
            exchange.downstream.abort()
            exchange.client_left(errors.CLIENT_LEFT if outcome == splice.SINK_BROKE else errors.WRITE_TIMEOUT)
        else:
            self._fail(errors.UPSTREAM_RESET if outcome == splice.SOURCE_BROKE else errors.UPSTREAM_STALLED)

    def _stop_splice(self) -> int:
        """Ends a splice that runs, counts what it has moved, and says it."""
        running, self._splice = self._splice, None
        if running is None:
            return 0
        running.cancel()
        if self.exchange is not None:
            self.exchange.bytes_out += running.moved
        return running.moved

    def splice_end(self) -> tuple[int, float] | None:
        """Where a request's body can be spliced to: the descriptor and the seconds to wait for it; or None."""
        descriptor = splice.plain_descriptor(self.transport)
        if descriptor < 0 or self.transport.get_write_buffer_size() or self.reading == CLOSED:
            return None
        return descriptor, self._pool.upstream.body_timeout

    def _end_chunks(self, exchange: Exchange, decoder: ChunkedDecoder) -> None:
        if decoder.rest:
            self._keep_alive = False
        self._complete(exchange)
        exchange.response_end(decoder.trailers)

    def _complete(self, exchange: Exchange) -> None:
        """The answer is in: back to the pool, or closed when it can't be used again."""
        if self.tls is not None and self.requests == 1:
            self.tls.keep_session(self.transport)
        self.exchange = None
        self._decoder = None
        self._informational = 0
        if self.paused:
            self.resume_reading()
        # Where the request is not taken whole yet, the next would fill the memory unseen.
        is_reusable = self._keep_alive and exchange.request_complete and not self.congested
        if is_reusable and self.reading != CLOSED:
            self.reading = IDLE
            self._pool.release(self)
        else:
            self._close(orderly=True)

    # Failing and closing.

    def _fail(self, failure: Failure) -> None:
        exchange, self.exchange = self.exchange, None
        self._close()
        if exchange is not None:
            exchange.upstream_failed(failure, False, False)

    def _lost(self, clean: bool) -> None:
        reading = self.reading
        if reading == CLOSED:
            return
        exchange, self.exchange = self.exchange, None
        unanswered = reading == HEAD and not self._buffer and self._informational == 0
        self._close()
        if exchange is None or reading == TUNNEL:
            return
        if reading == BODY and self.remaining < 0 and clean:
            # RFC 9112 §6.3: such a body ends where the connection does.
            exchange.response_end(b"")
        else:
            exchange.upstream_failed(errors.UPSTREAM_RESET, unanswered, self.requests > 1)

    def _close(self, orderly: bool = False) -> None:
        """`orderly`: nothing is left to read or to write, so a TLS connection takes leave (RFC 8446 §6.1)."""
        if self.reading == CLOSED:
            return
        was_busy = self.reading != IDLE
        tunnelled = self.reading == TUNNEL
        self._stop_splice()
        self.reading = CLOSED
        self.deadline = self.write_deadline = FOREVER
        self._buffer = b""
        if tunnelled or (orderly and self.tls is not None):
            # What the peer still has to send is worth the wait.
            self.transport.close()
        else:
            self.transport.abort()
        peer, self.peer = self.peer, None
        if peer is not None:
            peer.tunnel_lost()
        self._pool.closed(self, was_busy)

    def overdue(self, now: float) -> None:
        if self.write_deadline < now:
            unsent = self.transport.get_write_buffer_size()
            if unsent < self._unsent:
                self._unsent = unsent
                self.write_deadline = now + self._pool.upstream.body_timeout
            else:
                self._fail(errors.RESPONSE_TIMEOUT)
                return
        if self.deadline < now:
            if self.reading == HEAD:
                self._fail(errors.RESPONSE_TIMEOUT)
            elif self.reading in (BODY, SPLICE):
                self._fail(errors.UPSTREAM_STALLED)
            elif self.reading in (IDLE, TUNNEL):
                self._close(orderly=True)

    def close_idle(self) -> None:
        """The pool has no more use for it."""
        self._close(orderly=True)

    # Tunnels.

    def begin_tunnel(self, peer: DownstreamConnection, protocol: bytes, first: bytes) -> None:
        """`first` has come from the upstream already."""
        self.reading = TUNNEL
        self.peer = peer
        self._buffer = b""
        if protocol.lower() == b"websocket":
            self.conversation = (FrameTracker(), FrameTracker())
            self.conversation[1].feed(first)
        self.touch_tunnel()

    def touch_tunnel(self) -> None:
        """Something passed through it."""
        self.deadline = self._pool.gateway.now() + self._pool.upstream.tunnel_timeout

    def send_tunnelled(self, data: bytes) -> None:
        """What the client says."""
        if self.exchange is not None:
            self.exchange.bytes_in += len(data)
        self.touch_tunnel()
        if self.conversation is not None:
            self.conversation[0].feed(data)
        self.transport.write(data)

    def say_goodbye(self) -> None:
        """The tunnel is about to end, and no end of it has asked for that: tells both where they can understand it."""
        if self.conversation is None or self.peer is None:
            return
        from_client, from_upstream = self.conversation
        if from_upstream.may_end and not self.peer.half_closed:
            self.peer.transport.write(close_frame(GOING_AWAY))
        if from_client.may_end and not self.half_closed:
            self.transport.write(close_frame(GOING_AWAY, mask=_MASK))

    def end_tunnel_half(self) -> bool:
        """The client has nothing more to say; False when the upstream hasn't either, and the tunnel is over."""
        self.half_closed = True
        if not end_writing(self.transport, everything_is_read=not self.paused):
            # Only a whole end can tell it.
            return False
        return self.peer is not None and not self.peer.half_closed

    def end_tunnel(self) -> None:
        """The client is gone."""
        self.peer = None
        self.exchange = None
        self._close()


def _partition_view(data: bytes) -> tuple[bytes, bytes, Data]:
    """What `data.partition` gives at the end of a head, without a copy of the body."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return data, b"", b""
    return data[:end], b"\r\n\r\n", memoryview(data)[end + 4 :]
