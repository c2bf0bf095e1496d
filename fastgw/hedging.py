"""A second try of a request whose first is slow, on another endpoint (Dean and Barroso, "The Tail at Scale", 2013).

Whoever has an answer's head first wins, and the other connection is closed. An endpoint that has lost in the first try
is known to be slow; of the second nothing is known. What is decided elsewhere: whether there may be a second try at all
(`policy.retry.refusal`, with SLOW), after how long (`HedgeDelay`), and when that is (`net.hedges`).

One try that fails leaves it to the other, and an answer that retries would not take (such as 503) counts as a failure
then: it is thrown away, even if the other does no better. Only what becomes of the last try is the exchange's matter,
which may send a third. As soon as one is left, it is the exchange's own, and nothing here is needed any more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastgw.exchange import Exchange
from fastgw.policy.retry import CONNECT_FAILURE, IDEMPOTENT, STATUS, TIMEOUT, condition_of
from fastgw.tracing import OUTPACED

if TYPE_CHECKING:
    from fastgw.errors import Failure
    from fastgw.http1.message import Data, ResponseHead
    from fastgw.policy.retry import HedgeDelay
    from fastgw.ports import Pool, Upstream


def is_hedged(exchange: Exchange, by_default: bool) -> bool:
    """Whether a request is sent twice when it is slow, if all else allows it. `by_default` holds for routes that say
    nothing of it. An upgrade would have two tunnels."""
    route, request = exchange.route, exchange.request
    if route is None or request.upgrade:
        return False
    is_asked_for = by_default if route.hedges is None else route.hedges
    return is_asked_for and (request.method in IDEMPOTENT or route.retries_any_method)


class Hedge:
    """An exchange's, from when its request is out whole. `sent_at` is a time of the gateway's clock."""

    __slots__ = ("delay", "exchange", "second", "sent_at")

    def __init__(self, exchange: Exchange, delay: HedgeDelay, sent_at: float) -> None:
        # None: it is over.
        self.exchange: Exchange | None = exchange
        self.second: SecondTry | None = None
        self.delay = delay
        self.sent_at = sent_at

    def is_due(self) -> None:
        """The delay is over: sends the request once more if that is allowed, and an endpoint is there for it."""
        exchange = self.exchange
        if exchange is None or exchange.pool is None or exchange.pool.retries is None:
            return
        tried = exchange.tried | 1 << exchange.endpoint_index
        # It never waits in a queue: then there is too much to do already. The budget comes last, since it pays.
        if exchange.pool.has_room(tried) and exchange.pool.retries.may_hedge(exchange):
            exchange.tries += 1
            exchange.retries += 1
            self.second = SecondTry(self, exchange, exchange.pool, tried)
            self.second.send(False)

    # ports.Hedge.

    def answered(self) -> None:
        exchange = self.exchange
        if exchange is None:
            return
        self.delay.sample(exchange.upstream_started + exchange.upstream_s - self.sent_at)
        if self.second is None:
            # As `ended`, for nearly all requests.
            self.exchange = exchange.hedge = None
        else:
            self.dropped()

    def goes_on(self, status: int) -> bool:
        exchange, second = self.exchange, self.second
        if exchange is None or (status and not _is_retried(exchange, status)):
            return False
        if second is None:
            # What is sent again from here on is no first try.
            self.dropped()
            return False
        second.goes_on_alone()
        return True

    def dropped(self) -> None:
        second = self.second
        self.ended()
        if second is not None:
            second.dropped()

    def ended(self) -> None:
        """Nothing is left to do. The exchange is let go of, so that it frees itself by reference count."""
        exchange, self.exchange = self.exchange, None
        self.second = None
        if exchange is not None:
            exchange.hedge = None


class SecondTry(Exchange):
    """What a pool and a connection take for the exchange until an answer's head is there: what they look at is set of
    it, and nothing else. From then on the connection is the exchange's own.
    """

    __slots__ = ("_delay_s", "_exchange", "_hedge", "_is_alone", "_pool")

    def __init__(self, hedge: Hedge, exchange: Exchange, pool: Pool, tried: int) -> None:
        self._hedge = hedge
        # None: the other has won, or nobody waits any more.
        self._exchange: Exchange | None = exchange
        self._pool = pool
        self._delay_s = hedge.delay.seconds
        # The first has come to nothing, while this one waits for a connection.
        self._is_alone = False
        # It is sent when that of the exchange is.
        self.request_complete = True
        self.connection = None
        self.tried = tried
        self.tries = exchange.tries
        self.upstream_started = 0.0
        # The exchange is not what waits here.
        self.queued_s = 0.0
        self.connect_s = 0.0
        self.client = exchange.client
        self.downstream = exchange.downstream
        self.sticky_token = exchange.sticky_token
        self.request = exchange.request
        self.target, self.host, self.fields = exchange.target, exchange.host, exchange.fields
        self.pending_trailers = exchange.pending_trailers

    def send(self, fresh: bool) -> None:
        """Takes a connection, as `Exchange._forward` does."""
        connection = self._pool.acquire(self, fresh)
        if connection is not None:
            self.connected(connection)

    # What becomes of the first try.

    def goes_on_alone(self) -> None:
        """It has come to nothing."""
        exchange, connection = self._exchange, self.connection
        if connection is None or exchange is None:
            self._is_alone = True
            return
        connection.exchange = exchange
        self._takes_its_place(exchange, connection)
        self._exchange = None

    def dropped(self) -> None:
        """It has an answer, or none is waited for."""
        exchange, self._exchange = self._exchange, None
        if exchange is not None and exchange.trace is not None:
            exchange.trace.hedge_ended(0, OUTPACED, exchange.gateway.now())
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.discard()
        else:
            self._pool.forget(self)

    # From the pool.

    def is_waiting(self) -> bool:
        return self._exchange is not None and self.connection is None

    def connected(self, connection: Upstream) -> None:
        exchange = self._exchange
        if exchange is None:
            return
        if self._is_alone:
            self._hedge.ended()
            exchange.connected(connection)
            self._exchange = None
            return
        self.connection = connection
        self.upstream_started = exchange.gateway.now()
        if exchange.trace is not None:
            self.fields = exchange.trace.hedges(exchange.fields, connection.endpoint_name, self.upstream_started)
        connection.send_request(self, exchange.pending, True)

    def not_connected(self, failure: Failure, endpoint_index: int) -> None:
        exchange, pool = self._exchange, self._pool
        if exchange is None:
            return
        if self._is_alone:
            self._hedge.ended()
            exchange.not_connected(failure, endpoint_index)
            self._exchange = None
            return
        if endpoint_index >= 0:
            if exchange.trace is not None:
                exchange.trace.hedge_not_connected(exchange, endpoint_index, failure.reason)
            pool.tried_in_vain(endpoint_index, CONNECT_FAILURE)
            if pool.observer is not None:
                pool.observer.failed(endpoint_index)
            exchange.tried |= 1 << endpoint_index
            self.tried |= 1 << endpoint_index
            if pool.has_room(self.tried):
                exchange.tries += 1
                self.send(False)
                return
        self._gives_up()

    def crashed(self) -> None:
        """An exception on the way."""
        if self._exchange is not None:
            self._exchange.crashed()

    # From upstream.

    def response_informational(self, response: ResponseHead) -> None:
        """The client has those of the first try, or none."""

    def response_head(self, response: ResponseHead, first: Data, complete: bool) -> None:
        exchange, connection, observer = self._exchange, self.connection, self._pool.observer
        if exchange is None or connection is None:
            return
        now = exchange.gateway.now()
        if _is_retried(exchange, response.status):
            if observer is not None:
                observer.responded(connection.endpoint_index, now - self.upstream_started, response.status)
            if exchange.trace is not None:
                exchange.trace.hedge_ended(response.status, "", now)
            exchange.tried |= 1 << connection.endpoint_index
            self._pool.tried_in_vain(connection.endpoint_index, STATUS)
            self._gives_up()
            if not complete:
                connection.discard()
            return
        if observer is not None:
            observer.outpaced(exchange.endpoint_index, now - exchange.upstream_started)
        if exchange.connection is not None:
            exchange.connection.discard()
        self._hedge.delay.sample(self._delay_s)
        if not complete:
            # Else it is the pool's again.
            connection.exchange = exchange
        self._takes_its_place(exchange, connection)
        exchange.response_head(response, first, complete)
        self._exchange = None

    def upstream_failed(self, failure: Failure, unanswered: bool, reused: bool) -> None:
        exchange, connection, observer = self._exchange, self.connection, self._pool.observer
        if exchange is None or connection is None:
            return
        self.connection = None
        if exchange.trace is not None:
            exchange.trace.hedge_ended(0, failure.reason, exchange.gateway.now())
        if unanswered and reused and self._pool.has_room(self.tried):
            # As with a first try, it may have been closed before the request came.
            self.send(True)
            return
        condition = condition_of(failure, unanswered)
        self._pool.tried_in_vain(connection.endpoint_index, condition)
        if observer is not None:
            if condition == TIMEOUT:
                observer.timed_out(connection.endpoint_index, exchange.gateway.now() - self.upstream_started)
            else:
                observer.failed(connection.endpoint_index)
        exchange.tried |= 1 << connection.endpoint_index
        self._gives_up()

    # Ends.

    def _gives_up(self) -> None:
        """The first goes on."""
        self._exchange = None
        self._hedge.second = None

    def _takes_its_place(self, exchange: Exchange, connection: Upstream) -> None:
        """The exchange has this try alone from here on, as if it had had no other."""
        self._hedge.ended()
        exchange.connection = connection
        exchange.endpoint = connection.endpoint_name
        exchange.endpoint_index = connection.endpoint_index
        exchange.upstream_started = self.upstream_started
        if exchange.trace is not None:
            exchange.trace.hedge_stays(exchange.gateway.now())


def _is_retried(exchange: Exchange, status: int) -> bool:
    """Whether an answer of that status is worth less than what the other try may bring."""
    retries = exchange.pool.retries if exchange.pool is not None else None
    return retries is not None and retries.names_status(exchange, status)
