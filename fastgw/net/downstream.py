"""The client's side of HTTP/1.1: bytes in, exchanges begun; answers out, in order.

A connection has two halves. The reading half is in one of the states below; the writing half is open, about to
close after this answer (`_last_answer`), or closed. One exchange runs at a time: what a client pipelines waits in
`_buffer`, and beyond a bound in the socket.
"""

from __future__ import annotations

import asyncio
import select
from typing import TYPE_CHECKING, cast

from fastgw import errors
from fastgw.errors import Failure
from fastgw.exchange import Exchange
from fastgw.gateway import Gateway
from fastgw.http1.chunked import ChunkedDecoder, encode_chunk, encode_last_chunk
from fastgw.http1.fields import is_token
from fastgw.http1.message import CHUNKED, LENGTH, NO_BODY, UNTIL_CLOSE, Data, RequestHead
from fastgw.http1.parse import STRAY_LINE_END
from fastgw.net import splice
from fastgw.net.clock import FOREVER
from fastgw.net.reset import reset
from fastgw.net.splice import SPLICE_MIN, Splice
from fastgw.net.tls_transport import TlsTransport
from fastgw.policy.forwarded import is_trusted, lines_before_host
from fastgw.snapshot import Limits, Listener

if TYPE_CHECKING:
    from fastgw.net.listener import Server
    from fastgw.net.origin import Origin
    from fastgw.net.upstream import UpstreamConnection
    from fastgw.policy.tls_session import TlsSession

# The reading half.
HEAD = 0  # between requests, or inside a head
BODY = 1  # inside a request's body
WAIT = 2  # the request is complete, its answer is not
SPLICE = 3  # the body goes from socket to socket
TUNNEL = 4  # another protocol; bytes go to the peer
DRAIN = 5  # the last answer is sent; what still comes is dropped until the client closes
CLOSED = 6

# RFC 7239 §6.2: the identifier of a client that has no address.
_UNKNOWN = b"unknown"
# Past this many bytes the other side is told to stop; what a read brings is added, so memory stays near it.
WRITE_HIGH_WATER = 64 * 1024
# What a client may pipeline ahead before it is not read any more.
_PIPELINED_MAX = 64 * 1024
_CR = ord("\r")
# How long a client may take to read the last answer and close; nginx gives 5 s (lingering_timeout).
_LINGER_S = 5.0
# When the gateway stops, how long a connection that has said nothing yet has for its request, and one that has had an
# answer so recently that the next request may be on its way.
NEXT_REQUEST_S = 1.0
_JUST_NOW_S = 1.0
# The rate of a body is judged over windows of this length.
_RATE_WINDOW_S = 10.0


class DownstreamConnection:
    """A client's connection to a listener. It has all methods of an asyncio.Protocol, and not its base: a class that
    is compiled has none that is interpreted."""

    __slots__ = (
        "_buffer",
        "_decoder",
        "_exchange",
        "_gateway",
        "_in_head",
        "_is_expected",
        "_last_answer",
        "_limits",
        "_loop",
        "_origin",
        "_received",
        "_remaining",
        "_repeatable",
        "_requests",
        "_sending",
        "_server",
        "_splice",
        "_unsent",
        "_window_received",
        "client",
        "congested",
        "deadline",
        "forwarded",
        "half_closed",
        "listener_name",
        "needs_identifying",
        "paused",
        "peer",
        "reading",
        "redirect_to_https",
        "scheme",
        "session",
        "transport",
        "trusted",
        "write_deadline",
    )

    def __init__(self, gateway: Gateway, server: Server, origin: Origin | None = None) -> None:
        self._gateway = gateway
        self._server = server
        # None: nothing came ahead of the first request.
        self._origin = origin
        self._limits: Limits = server.listener.limits
        self._loop = server.loop
        self.transport: asyncio.Transport = cast(asyncio.Transport, None)
        self.reading = HEAD
        self._buffer = b""
        self._in_head = False
        self._exchange: Exchange | None = None
        self._requests = 0
        # The last request that was not one more of the same.
        self._repeatable: RequestHead | None = None
        # The request's body.
        self._remaining = 0
        self._received = 0
        self._window_received = 0
        self._is_expected = False
        self._decoder: ChunkedDecoder | None = None
        self.paused = False
        self._splice: Splice | None = None
        # The answer: how its body is framed, and whether the connection closes after it.
        self._sending = NO_BODY
        self._last_answer = False
        # A tunnel: who is at its other end, and whether that one has said all it will.
        self.peer: UpstreamConnection | None = None
        self.half_closed = False
        # When to look again, and what was still unsent when we last looked at a client that doesn't read.
        self.deadline = FOREVER
        self.write_deadline = FOREVER
        self._unsent = 0
        # The client does not take what is written.
        self.congested = False
        self.listener_name = server.listener.name
        self.client = b""
        self.scheme = b"http"
        self.session: TlsSession | None = None
        self.redirect_to_https = server.listener.redirect_to_https
        self.forwarded = b""
        self.trusted = False
        self.needs_identifying = False

    # From the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport = cast(asyncio.Transport, transport)
        transport.set_write_buffer_limits(high=WRITE_HIGH_WATER)
        origin = self._origin
        told = None if origin is None else origin.ends
        peername = transport.get_extra_info("peername") if told is None else told[0]
        self.client = peername[0].encode("ascii", "replace") if isinstance(peername, tuple) else _UNKNOWN
        if origin is not None and origin.session is not None:
            self.session = origin.session
            self.scheme = b"https"
            self.forwarded = origin.session.lines + lines_before_host(self.client, self.scheme)
        else:
            self.forwarded = lines_before_host(self.client, self.scheme)
        self._identify()
        if not self._server.admit(self):
            self.refuse_unread(errors.CONNECTION_LIMIT)
            return
        # A client that connects and says nothing gets the time of a head, not that of an idle connection.
        self.deadline = self._gateway.now() + self._limits.head_timeout

    def _identify(self) -> None:
        """Whether the client is believed, and whether more has to be looked at than that it isn't."""
        snapshot = self._gateway.snapshot
        # The very object: a PROXY header may tell of an unknown client, too, on somebody else's Unix socket.
        if self.client is _UNKNOWN:
            self.trusted = snapshot.trusts_unix
        elif snapshot.trusted_proxies or self.trusted:
            self.trusted = is_trusted(self.client, snapshot.trusted_proxies)
        self.needs_identifying = (
            self.trusted
            or (self.session is not None and self.session.names is not None)
            or self.redirect_to_https > 0
            or snapshot.has_client_cert_headers
        )

    def data_received(self, data: bytes) -> None:
        try:
            reading = self.reading
            if reading == HEAD:
                self._read_head(data)
            elif reading == BODY:
                self._read_body(data)
            elif reading == WAIT:
                self._hold(data)
            elif reading == TUNNEL and self.peer is not None:
                self.peer.send_tunnelled(data)
        except Exception:
            self._crashed()

    def eof_received(self) -> bool:
        if self.reading == TUNNEL and self.peer is not None:
            return self.peer.end_tunnel_half()
        if self._buffer and self.reading == HEAD:
            # It broke off inside a head: nobody to answer, but it is logged.
            self._exchange = Exchange(self._gateway, self, self._gateway.now())
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_splice()
        reading, self.reading = self.reading, CLOSED
        self._server.closed(self)
        self.deadline = self.write_deadline = FOREVER
        exchange, self._exchange = self._exchange, None
        peer, self.peer = self.peer, None
        if peer is not None:
            peer.end_tunnel()
        if exchange is None:
            return
        if reading == TUNNEL:
            exchange.tunnel_ended()
        else:
            exchange.client_left(errors.CLIENT_LEFT)

    def pause_writing(self) -> None:
        self.congested = True
        self._unsent = self.transport.get_write_buffer_size()
        self.write_deadline = self._gateway.now() + self._limits.write_timeout
        if self.peer is not None:
            self.peer.pause_reading()
        elif self._exchange is not None and self._exchange.connection is not None:
            self._exchange.connection.pause_reading()

    def resume_writing(self) -> None:
        self.congested = False
        self.write_deadline = FOREVER
        if self.peer is not None:
            self.peer.resume_reading()
        elif self._exchange is not None and self._exchange.connection is not None:
            self._exchange.connection.resume_reading()
        elif self._buffer:
            self._loop.call_soon(self._next_request)

    # Reading requests.

    def _read_head(self, data: bytes) -> None:
        if self.congested:
            # A client that does not read its answers gets no more of them.
            self._hold(data)
            return
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        if data[0] == _CR:
            data = _without_empty_lines(data)
        # `partition` costs a third of `find`, which parses its arguments through a format.
        head, mark, rest = data.partition(b"\r\n\r\n")
        if not mark:
            self._hold_partial_head(data)
            return
        self._in_head = False
        gateway, limits = self._gateway, self._limits
        exchange = self._exchange = Exchange(gateway, self, gateway.now())
        self.reading = WAIT
        if len(head) + 4 > limits.head_size:
            self._refuse(exchange, errors.HEAD_TOO_LARGE)
            return
        earlier = self._repeatable
        if earlier is None:
            earlier = self._server.heads.get(head[head.find(b"\r\n") :])
        request = gateway.parser.parse(head, limits.target_size, limits.header_count, earlier)
        if isinstance(request, Failure):
            self._refuse(exchange, request)
            return
        if request.lines:
            if not self._requests:
                self._server.remember(request)
            earlier = request
        self._repeatable = earlier
        self._requests += 1
        self._last_answer = not request.keep_alive or self._requests >= limits.requests_per_connection
        if request.body:
            self._begin_with_body(exchange, request, rest)
            return
        self._buffer = rest
        self.deadline = FOREVER
        exchange.begin(request, b"", True)
        if exchange.deadline and self._exchange is exchange:
            self.deadline = exchange.deadline

    def _refuse(self, exchange: Exchange, failure: Failure) -> None:
        self._last_answer = True
        # What may still come of the request is dropped.
        self.reading = DRAIN
        exchange.refuse(failure)

    def _begin_with_body(self, exchange: Exchange, request: RequestHead, rest: bytes) -> None:
        length = request.content_length
        self.deadline = FOREVER
        if length > self._limits.body_size:
            exchange.request = request
            self._refuse(exchange, errors.BODY_TOO_LARGE)
        elif request.body == LENGTH and len(rest) >= length:
            self._buffer = rest[length:]
            exchange.begin(request, rest[:length], True)
        elif request.body == LENGTH:
            self.reading = BODY
            self._remaining = length - len(rest)
            self._start_body(len(rest), not request.expects_continue)
            exchange.begin(request, rest, False)
            if self._exchange is exchange and self._is_expected:
                self._prepare_splice(exchange)
        else:
            decoder = self._decoder = ChunkedDecoder()
            first = b"".join(decoder.feed(rest))
            if decoder.broken:
                exchange.request = request
                self._refuse(exchange, errors.BAD_CHUNK)
                return
            if len(first) + decoder.to_come > self._limits.body_size:
                exchange.request = request
                self._refuse(exchange, errors.BODY_TOO_LARGE)
                return
            self.reading = BODY
            self._start_body(len(first), not request.expects_continue)
            if decoder.complete and not decoder.trailers:
                self._end_body_reading(decoder.rest)
                exchange.begin(request, first, True)
            else:
                exchange.begin(request, first, False)
                if decoder.complete and self.reading == BODY:
                    self._end_body_reading(decoder.rest)
                    exchange.request_end(decoder.trailers)
        if exchange.deadline and self._exchange is exchange:
            self.deadline = min(self.deadline, exchange.deadline)

    def _start_body(self, received: int, is_expected: bool) -> None:
        """`is_expected`: the client sends it without waiting for a 100 (RFC 9110 §10.1.1)."""
        self._received = self._window_received = received
        self._is_expected = is_expected
        self.deadline = self._gateway.now() + _RATE_WINDOW_S

    def _end_body_reading(self, rest: bytes) -> None:
        self._decoder = None
        self._buffer = rest
        self.reading = WAIT
        exchange = self._exchange
        self.deadline = exchange.deadline or FOREVER if exchange is not None else FOREVER

    def _read_body(self, data: bytes) -> None:
        exchange = self._exchange
        if exchange is None:
            return
        if self._decoder is not None:
            self._read_chunks(exchange, self._decoder, data)
            return
        remaining = self._remaining - len(data)
        self._received += len(data)
        if remaining > 0:
            self._remaining = remaining
            exchange.request_body(data)
            if remaining >= SPLICE_MIN and self._exchange is exchange:
                self._prepare_splice(exchange)
            return
        self._remaining = 0
        rest = b""
        if remaining < 0:
            data, rest = data[:remaining], data[remaining:]
        self._end_body_reading(rest)
        exchange.request_body(data)
        if self._exchange is exchange:
            exchange.request_end(b"")

    # Splicing a request's body.

    def _prepare_splice(self, exchange: Exchange) -> None:
        """Stops reading; when the loop has written what the upstream is due already, the kernel takes over."""
        if self.reading != BODY or self.paused or self._remaining < SPLICE_MIN or not splice.AVAILABLE:
            return
        if self.session is not None:
            return
        self.reading = SPLICE
        self.transport.pause_reading()
        self._loop.call_soon(self._begin_splice, exchange)

    def _begin_splice(self, exchange: Exchange) -> None:
        if self.reading != SPLICE or self._exchange is not exchange:
            return
        sink = exchange.connection.splice_end() if exchange.connection is not None else None
        source = splice.plain_descriptor(self.transport)
        if sink is None or source < 0:
            # The upstream is slow, encrypted, or not connected yet.
            self._read_on(exchange)
            return
        server = self._server
        ends = (source, max(self._limits.write_timeout, _RATE_WINDOW_S))
        try:
            self._splice = Splice(
                self._loop, server.sweep, self._gateway.now, ends, sink, self._remaining, self._splice_ended
            )
        except OSError:
            # There are no more descriptors.
            self._read_on(exchange)
            return
        exchange.body_leaves()

    def _read_on(self, exchange: Exchange) -> None:
        """No splice: the ordinary way."""
        self.reading = BODY
        self.transport.resume_reading()
        if exchange.connection is None or exchange.connection.congested:
            self.pause_reading()

    def _splice_ended(self, outcome: int) -> None:
        moved = self._stop_splice()
        self._remaining -= moved
        self._received += moved
        exchange = self._exchange
        if exchange is None:
            return
        if outcome == splice.DONE:
            self.transport.resume_reading()
            self._end_body_reading(b"")
            exchange.request_end(b"")
        elif outcome == splice.SOURCE_BROKE:
            exchange.client_left(errors.CLIENT_LEFT)
            self.transport.abort()
        elif outcome == splice.SOURCE_STALLED:
            exchange.fail(errors.BODY_TIMEOUT)
        else:
            broke = outcome == splice.SINK_BROKE
            exchange.fail(errors.UPSTREAM_RESET if broke else errors.RESPONSE_TIMEOUT)

    def _stop_splice(self) -> int:
        """Ends a splice that runs, counts what it has moved, and says it."""
        running, self._splice = self._splice, None
        if running is None:
            return 0
        running.cancel()
        if self._exchange is not None:
            self._exchange.bytes_in += running.moved
        return running.moved

    def splice_end(self) -> tuple[int, float] | None:
        """Where an answer's body can be spliced to: the descriptor and the seconds to wait for it; or None."""
        descriptor = splice.plain_descriptor(self.transport)
        if descriptor < 0 or self.transport.get_write_buffer_size() or self.reading == CLOSED:
            return None
        return descriptor, self._limits.write_timeout

    def _read_chunks(self, exchange: Exchange, decoder: ChunkedDecoder, data: bytes) -> None:
        piece = b"".join(decoder.feed(data))
        self._received += len(piece)
        if decoder.broken:
            self._last_answer = True
            exchange.fail(errors.BAD_CHUNK)
            return
        if self._received + decoder.to_come > self._limits.body_size:
            self._last_answer = True
            exchange.fail(errors.BODY_TOO_LARGE)
            return
        if decoder.complete:
            self._end_body_reading(decoder.rest)
        if piece:
            exchange.request_body(piece)
        if decoder.complete and self._exchange is exchange:
            exchange.request_end(decoder.trailers)

    def _hold(self, data: bytes) -> None:
        """The next requests, while an answer is awaited; or, ahead of a tunnel, the first of its bytes."""
        self._buffer += data
        if len(self._buffer) > _PIPELINED_MAX:
            self.pause_reading()

    def _hold_partial_head(self, data: bytes) -> None:
        if not data:
            return
        if (data != b"\r" and not is_token(data.partition(b" ")[0])) or STRAY_LINE_END.search(data) is not None:
            # A TLS hello or another protocol, or a head whose end would never be found (RFC 9112 §2.2).
            self.refuse_unread(errors.MALFORMED)
        elif len(data) >= self._limits.head_size:
            long_line = data.find(b"\r\n") < 0
            self.refuse_unread(errors.TARGET_TOO_LONG if long_line else errors.HEAD_TOO_LARGE)
        else:
            self._buffer = data
            if not self._in_head:
                self._in_head = True
                self.deadline = self._gateway.now() + self._limits.head_timeout

    def refuse_unread(self, failure: Failure) -> None:
        """Answers what is no request, and closes."""
        exchange = self._exchange = Exchange(self._gateway, self, self._gateway.now())
        self._refuse(exchange, failure)

    def _next_request(self) -> None:
        if self.reading == HEAD and self._buffer and not self.congested:
            data, self._buffer = self._buffer, b""
            self.data_received(data)

    # ports.Downstream: writing answers.

    def send_informational(self, line: bytes, fields: bytes) -> None:
        if self.reading == BODY and line[9:12] == b"100":
            # The client has been asked for its body, and its pace counts from now on.
            self._is_expected = True
            self._window_received = self._received
            self._judge_rate_later(self._gateway.now())
        self.transport.write(b"%b%b\r\n\r\n" % (line, fields))

    def send_head(self, line: bytes, fields: bytes, body: int, length: int, first: Data, complete: bool) -> None:
        exchange = self._exchange
        if exchange is None:
            return
        request = exchange.request
        if body == LENGTH:
            framing = b"\r\nContent-Length: %d" % length
        elif body == NO_BODY:
            framing = b"\r\nContent-Length: %d" % length if length >= 0 else b""
        elif request.minor == 1:
            body = CHUNKED
            framing = b"\r\nTransfer-Encoding: chunked"
            first = encode_chunk(first) if first else b""
            if complete:
                first += encode_last_chunk(b"")
        else:
            # RFC 9112 §6.3: an HTTP/1.0 client learns the end of such a body from the close.
            body = UNTIL_CLOSE
            framing = b""
            self._last_answer = True
        self._sending = body
        if not exchange.request_complete or self._server.draining or not request.keep_alive:
            self._last_answer = True
        if self._last_answer:
            end = b"\r\nConnection: close\r\n\r\n"
            if complete and self.session is not None:
                cast(TlsTransport, self.transport).hold()
        elif request.minor == 1:
            end = b"\r\n\r\n"
        else:
            end = b"\r\nConnection: keep-alive\r\n\r\n"
        # One write and one packet, even where the body is long: uvloop makes two system calls of two writes.
        self.transport.write(b"".join((line, fields, framing, end, first)))

    def send_body(self, data: bytes) -> None:
        self.transport.write(encode_chunk(data) if self._sending == CHUNKED else data)

    def end_body(self, trailers: bytes) -> None:
        if self._sending == CHUNKED:
            self.transport.write(encode_last_chunk(trailers))

    def begin_tunnel(self, line: bytes, fields: bytes, peer: UpstreamConnection, protocol: bytes, first: bytes) -> None:
        self.transport.write(b"%b%b\r\n\r\n%b" % (line, fields, first))
        self.reading = TUNNEL
        self.peer = peer
        self.deadline = FOREVER
        held, self._buffer = self._buffer, b""
        peer.begin_tunnel(self, protocol, first)
        if held:
            peer.send_tunnelled(held)
        self.resume_reading()

    def end_tunnel_half(self) -> bool:
        """The upstream has nothing more to say; False when the client hasn't either, and the tunnel is over."""
        self.half_closed = True
        self.transport.write_eof()
        return self.peer is not None and not self.peer.half_closed

    def tunnel_lost(self) -> None:
        """The upstream is gone; what it sent before still arrives."""
        self.peer = None
        exchange, self._exchange = self._exchange, None
        self.deadline = self._gateway.now() + _LINGER_S
        self.transport.close()
        if exchange is not None:
            exchange.tunnel_ended()

    def addresses(self) -> tuple[tuple[str, int], tuple[str, int]]:
        if self._origin is not None and self._origin.ends is not None:
            return self._origin.ends
        ends = (self.transport.get_extra_info("peername"), self.transport.get_extra_info("sockname"))
        source, destination = ((end[0], end[1]) if isinstance(end, tuple) else ("", 0) for end in ends)
        return source, destination

    def exchange_ended(self) -> None:
        self._exchange = None
        if self.reading == CLOSED:
            return
        if self._last_answer or self.reading != WAIT or self._server.draining:
            self._close_after_answer()
            return
        self.reading = HEAD
        if self.paused:
            self.resume_reading()
        self.deadline = self._gateway.coarse_now + self._limits.idle_timeout
        if self._buffer and not self.congested:
            self._loop.call_soon(self._next_request)

    def abort(self) -> None:
        self._last_answer = True
        if self._exchange is None or self.reading == TUNNEL:
            self.transport.abort()
        else:
            # Its answer breaks off.
            reset(self.transport)

    def pause_reading(self) -> None:
        if not self.paused and self.reading not in (CLOSED, SPLICE):
            self.paused = True
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        if self.paused and self.reading not in (CLOSED, SPLICE):
            self.paused = False
            self.transport.resume_reading()
            if self.reading == BODY:
                # It was not the client that was slow.
                self._window_received = self._received
                self._judge_rate_later(self._gateway.now())

    # Closing.

    def _close_after_answer(self) -> None:
        """Closes so that the answer arrives: a close over unread input would reset the connection (RFC 9112 §9.6)."""
        if self.reading == SPLICE:
            self._stop_splice()
            self.transport.resume_reading()
        clean = self.reading == WAIT and not self._buffer and self._exchange is None and self._requests > 0
        self.reading = DRAIN
        self._buffer = b""
        self._linger(self._gateway.now())
        if clean:
            self.transport.close()
        elif not self.transport.is_closing():
            self.transport.write_eof()
            self.resume_reading()

    def _linger(self, now: float) -> None:
        """Waits for the client to read what is left, and to close."""
        self._unsent = self.transport.get_write_buffer_size()
        self.deadline = now + (self._limits.write_timeout if self._unsent else _LINGER_S)

    def adopt(self, listener: Listener) -> None:
        """The configuration has changed: the next request is under this one."""
        if listener.limits != self._limits:
            self._limits = listener.limits
            self._repeatable = None
        self.listener_name = listener.name
        self.redirect_to_https = listener.redirect_to_https
        self._identify()

    def drain(self) -> None:
        """The gateway stops: an idle connection closes, another after its answer.

        One that has just connected or just had its answer may be sending a request, or has sent it already: that gets
        its answer first.
        """
        if self.reading != HEAD or self._buffer or self._has_input():
            return
        now = self._gateway.now()
        idle_s = now + self._limits.idle_timeout - self.deadline
        if self._requests and idle_s > _JUST_NOW_S:
            self.transport.close()
        else:
            self.deadline = min(self.deadline, now + NEXT_REQUEST_S)

    def end(self) -> None:
        """The time of a stop is over: a tunnel ends in order, anything else breaks off."""
        if self.reading == TUNNEL:
            if self.peer is not None:
                self.peer.say_goodbye()
            self.transport.close()
        else:
            self.abort()

    def _has_input(self) -> bool:
        sock = self.transport.get_extra_info("socket")
        if sock is None:
            return False
        poller = select.poll()
        poller.register(sock.fileno(), select.POLLIN)
        return bool(poller.poll(0))

    def overdue(self, now: float) -> None:
        if self.write_deadline < now:
            self._check_writing(now)
        if self.deadline < now:
            self._check_reading(now)

    def _check_writing(self, now: float) -> None:
        unsent = self.transport.get_write_buffer_size()
        if unsent < self._unsent:
            self._unsent = unsent
            self.write_deadline = now + self._limits.write_timeout
            return
        self.write_deadline = FOREVER
        reset(self.transport)
        if self._exchange is not None:
            self._exchange.client_left(errors.WRITE_TIMEOUT)

    def _check_reading(self, now: float) -> None:
        exchange = self._exchange
        if self.reading == HEAD:
            if self._buffer:
                self.refuse_unread(errors.HEAD_TIMEOUT)
            elif self.transport.get_write_buffer_size():
                reset(self.transport)
            else:
                self.transport.close()
        elif self.reading == DRAIN or exchange is None:
            unsent = self.transport.get_write_buffer_size()
            if unsent < self._unsent:
                self._linger(now)
            elif unsent:
                reset(self.transport)
            else:
                # What the kernel still has goes on to a client that reads it, however slowly.
                self.transport.abort()
        elif exchange.deadline and exchange.deadline < now:
            self._last_answer = self._last_answer or self.reading in (BODY, SPLICE)
            self.deadline = FOREVER
            exchange.timed_out()
        elif self.reading in (BODY, SPLICE):
            self._check_rate(exchange, now)

    def _check_rate(self, exchange: Exchange, now: float) -> None:
        """Whether the client has sent as much as it must in the window that ends; its backend may have held it up."""
        received, held_up = self._received, self.paused
        if self._splice is not None:
            received += self._splice.moved
            held_up = self._splice.was_held_up()
        came = received - self._window_received
        is_its_turn = self._is_expected or self._received > 0
        if is_its_turn and not held_up and came < self._limits.body_min_rate * _RATE_WINDOW_S:
            self._last_answer = True
            exchange.fail(errors.BODY_TIMEOUT)
            return
        self._window_received = received
        self._judge_rate_later(now)

    def _judge_rate_later(self, now: float) -> None:
        self.deadline = now + _RATE_WINDOW_S
        if self._exchange is not None and self._exchange.deadline:
            self.deadline = min(self.deadline, self._exchange.deadline)

    def _crashed(self) -> None:
        self._gateway.failed()
        exchange = self._exchange
        self._last_answer = True
        if exchange is not None:
            exchange.crashed()
        else:
            self.transport.abort()


def _without_empty_lines(data: bytes) -> bytes:
    """RFC 9112 §2.2: empty lines before a request are ignored. There may be very many of them."""
    line_ends = data[: len(data) - len(data.lstrip(b"\r\n"))]
    lines = line_ends.count(b"\r\n")
    # A stray CR or LF among them stays, and is refused with what follows.
    return data[2 * lines :] if line_ends.startswith(b"\r\n" * lines) else data
