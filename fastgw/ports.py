"""The small interfaces between an exchange and the world.

An exchange knows neither sockets nor protocols. Downstream of it is whoever speaks to the client; upstream, a
connection that a pool hands out. Both call the methods of `exchange.Exchange` in turn. All calls are made on one
thread and return at once; header lines are bytes, each line begun by CRLF.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from fastgw.exchange import Exchange
    from fastgw.http1.message import Data
    from fastgw.policy.sticky_cookie import StickyCookie
    from fastgw.policy.tls_session import TlsSession


class Downstream(Protocol):
    """The client's side of one exchange at a time."""

    client: bytes  # the address at the other end of the connection
    scheme: bytes
    listener_name: str
    congested: bool  # what is written to it waits
    trusted: bool  # whether what it says of those before it is believed
    session: TlsSession | None  # None: plain text
    redirect_to_https: int  # the port of the https URL to which it is sent away; 0: it is not
    needs_identifying: bool  # whether more than its address and Host says whose its requests are, and what for
    forwarded: bytes  # the lines that tell the upstream of it, up to where the host goes

    def send_informational(self, line: bytes, fields: bytes) -> None:
        """A 1xx answer, but 101."""

    def send_head(self, line: bytes, fields: bytes, body: int, length: int, first: Data, complete: bool) -> None:
        """The answer's status line and header lines, and the first of its body. `body` is one of message.NO_BODY,
        LENGTH, CHUNKED, UNTIL_CLOSE; `length` what Content-Length says, or -1. `complete`: nothing follows."""

    def send_body(self, data: bytes) -> None:
        """The next of the body."""

    def end_body(self, trailers: bytes) -> None:
        """The body is complete."""

    def begin_tunnel(self, line: bytes, fields: bytes, peer: Any, protocol: bytes, first: bytes) -> None:
        """The upstream `peer` has switched protocols: both sides' bytes are passed on from here, `first` first."""

    def pause_reading(self) -> None:
        """The request's body can't be taken for now."""

    def resume_reading(self) -> None:
        """It can again."""

    def splice_end(self) -> tuple[int, float] | None:
        """Where the answer's body may be spliced to: a descriptor, and the seconds to wait for it; None: nowhere,
        or not now."""

    def addresses(self) -> tuple[tuple[str, int], tuple[str, int]]:
        """Where the client's connection comes from, and what it has connected to: hosts, which are no IP addresses
        on a Unix socket, and ports."""

    def exchange_ended(self) -> None:
        """The answer has been given to the connection whole, or never will be."""

    def abort(self) -> None:
        """Breaks the connection off, so that a truncated answer does not look complete."""


class Tee(Downstream, Protocol):
    """Stands before a client, and keeps what a mirror will get. At the end of the exchange it steps aside."""

    trailers: bytes  # those of the request

    def request_body(self, data: bytes) -> None:
        """More of the request's body, behind what came with its head."""

    def body_leaves(self) -> None:
        """The rest of it does not pass here."""


class Mirror(Protocol):
    """Where copies of a route's requests go."""

    def tee(self, exchange: Exchange) -> Tee | None:
        """Decides on a request whose head is there; None: it is not copied."""


class Upstream(Protocol):
    """A connection to an endpoint, lent to one exchange."""

    endpoint_name: str
    endpoint_index: int  # in the snapshot's list
    exchange: Exchange | None  # who is told of the answer
    congested: bool  # what is written to it waits

    def send_request(self, exchange: Exchange, first: bytes, complete: bool) -> None:
        """Sends the head, and the first of the body; `complete`: that is all of it."""

    def send_body(self, data: bytes) -> None:
        """The next of the request's body."""

    def end_body(self, trailers: bytes) -> None:
        """The request's body is complete."""

    def pause_reading(self) -> None:
        """The answer's body can't be taken for now."""

    def resume_reading(self) -> None:
        """It can again."""

    def splice_end(self) -> tuple[int, float] | None:
        """Where the request's body may be spliced to, as for Downstream."""

    def discard(self) -> None:
        """The exchange has no more use for it, and no other can have: it is closed."""


class Observer(Protocol):
    """Learns how endpoints do; they are told by their index, and times are in seconds."""

    def responded(self, endpoint: int, seconds: float, status: int) -> None:
        """An answer's head has come, after `seconds`."""

    def succeeded(self, endpoint: int, seconds: float) -> None:
        """An answer that was no server error has come whole, its head after `seconds`; or a tunnel has begun."""

    def failed(self, endpoint: int) -> None:
        """No connection could be made, or it broke."""

    def timed_out(self, endpoint: int, seconds: float) -> None:
        """No answer's head has come for `seconds`."""

    def outpaced(self, endpoint: int, seconds: float) -> None:
        """The same, but another endpoint has answered meanwhile, so nobody waits for it any more."""


class Admission(Protocol):
    """Counts the requests that await an answer's head."""

    def concluded(self, is_failure: bool | None) -> None:
        """One does no more; None: that says nothing of the upstream."""


class Retries(Protocol):
    """Whether a request is sent again."""

    max_body: int  # of a request, to be kept for that; bytes

    def wait_s(self, exchange: Exchange, condition: int, status: int, retry_after: bytes | None) -> float:
        """How long to wait before; negative: it is not. `condition` is one of policy.retry."""

    def may_hedge(self, exchange: Exchange) -> bool:
        """Whether it is sent a second time now, with its first try still awaited; then the budget has paid for it."""

    def names_status(self, exchange: Exchange, status: int) -> bool:
        """Whether an answer of that status is one to retry after, if all else allows it."""


class Hedge(Protocol):
    """Watches over the first try of a request, and sends a second one when that is slow."""

    def answered(self) -> None:
        """The first try has an answer that the client gets."""

    def goes_on(self, status: int) -> bool:
        """The first try has failed, or, if `status` isn't 0, has an answer of that status. Whether a second one is
        under way that may do better: then it is the exchange's only one from here on."""

    def dropped(self) -> None:
        """Nobody waits for an answer any more."""


class Hedges(Protocol):
    """An upstream's hedging."""

    def sent(self, exchange: Exchange, now: float) -> None:
        """A request is out whole, and its answer is awaited."""


class Pool(Protocol):
    """An upstream's connections."""

    name: str
    host: bytes  # the Host of a request that came without one
    observer: Observer | None  # told of what becomes of requests
    retries: Retries | None  # None: what fails is not sent again
    hedges: Hedges | None  # None: nothing is sent twice for being slow
    sticky: StickyCookie | None  # None: no cookie brings its clients back

    def acquire(self, exchange: Exchange, fresh: bool) -> Upstream | None:
        """A connection that is open, or None: then `exchange.connected` or `exchange.not_connected` is called
        later, or has been called already. `fresh`: one that has carried no request yet."""

    def forget(self, exchange: Exchange) -> None:
        """The exchange waits no more."""

    def has_others(self, tried: int) -> bool:
        """Whether an endpoint is available whose bit is not set in `tried`."""

    def has_room(self, tried: int) -> bool:
        """Whether such an endpoint takes a request at once."""

    def try_again(self, exchange: Exchange, wait_s: float) -> None:
        """Calls its `try_again` after a while."""

    def tried_in_vain(self, endpoint: int, condition: int) -> None:
        """Counts a try that came to nothing; `condition` is one of policy.retry, 0 for what is none of them."""


class Log(Protocol):
    """Where all ended exchanges go."""

    def record(self, exchange: Exchange) -> None:
        """Takes note of it; nothing about it changes any more."""


class Failures(Protocol):
    """Where ended exchanges go that have failed: those with a reason, and those with a server error."""

    def record(self, exchange: Exchange) -> None:
        """As `Log.record`."""


class Traces(Protocol):
    """Where ended exchanges go whose trace is recorded."""

    def record(self, exchange: Exchange) -> None:
        """As `Log.record`."""
