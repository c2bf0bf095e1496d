"""The straight line: one request and its answer, from the parsed head to the access log.

    match route → answer locally | transform request → pick endpoint → forward → transform response → respond → finish

`begin` shows the steps in order. A step returns CONTINUE, REPLY (the exchange has its answer) or SUSPEND (it waits for
a connection; `connected` resumes it). So a common request needs no task and no await: it runs inside the call that
delivers its bytes, and its answer inside the call that delivers the upstream's.
Every exit goes through `_finish`, which logs it. What is sent, and to whom, is decided here; how, by the two sides
(`ports.Downstream`, `ports.Upstream`), which also hold the back-pressure between them.
"""

from __future__ import annotations

from fastgw import errors
from fastgw.errors import Failure
from fastgw.gateway import Gateway
from fastgw.http1 import encode
from fastgw.http1.fields import finder
from fastgw.http1.message import LENGTH, NO_BODY, Data, RequestHead, ResponseHead
from fastgw.identification import identify
from fastgw.policy.arms import Arms
from fastgw.policy.balancer import WeightedSplit
from fastgw.policy.retry import CONNECT_FAILURE, IDEMPOTENT, STATUS, TIMEOUT, condition_of
from fastgw.policy.router import METHOD_NOT_ALLOWED
from fastgw.policy.sticky_cookie import StickyCookie, for_one_client
from fastgw.policy.trace_context import ID_DIGITS
from fastgw.ports import Admission, Downstream, Hedge, Pool, Tee, Upstream
from fastgw.snapshot import HeaderEdits, LocalReply, PathTemplate, Rewrite, Route
from fastgw.tracing import Trace

# What a step says.
CONTINUE = 0
REPLY = 1
SUSPEND = 2

# Where the answer is.
AWAITED = 0
BEGUN = 1
ENDED = 2

# Answers below it are never retried.
_LEAST_RETRIED = 400
# From here on an answer speaks against the endpoint.
_SERVER_ERROR = 500

# RFC 9110 §7.6.2: these say how many may forward them.
_COUNTS_FORWARDS = frozenset((b"OPTIONS", b"TRACE"))

_ID = b"\r\nX-Request-Id: "
_VIA_1_0 = b"\r\nVia: 1.0 " + encode.PSEUDONYM.encode() + _ID
_VIA_1_1 = b"\r\nVia: 1.1 " + encode.PSEUDONYM.encode() + _ID
_FORWARDED_HOST = b'"\r\nX-Forwarded-Host: '

# Stands for the request of an exchange whose head could not be read.
_UNREADABLE = RequestHead(b"", b"", 1)
_UNREADABLE.path = b""
_UNREADABLE.keep_alive = False


class Exchange:
    """One request and its answer. Times are those of the gateway's monotonic clock, in seconds."""

    __slots__ = (
        "admission",
        "answer",
        "answer_fields",
        "arm_cookie",
        "arm_line",
        "bytes_in",
        "bytes_out",
        "captured",
        "client",
        "connect_s",
        "connection",
        "deadline",
        "downstream",
        "ended",
        "endpoint",
        "endpoint_index",
        "fields",
        "gateway",
        "hedge",
        "host",
        "in_pieces",
        "pending",
        "pending_trailers",
        "pool",
        "queued_s",
        "reason",
        "replayable",
        "request",
        "request_complete",
        "request_id",
        "retries",
        "route",
        "started",
        "status",
        "sticks",
        "sticky_token",
        "target",
        "tee",
        "trace",
        "trace_at",
        "trace_lines",
        "tried",
        "tries",
        "upstream_s",
        "upstream_started",
    )

    def __init__(self, gateway: Gateway, downstream: Downstream, started: float) -> None:
        self.gateway = gateway
        self.downstream = downstream
        self.started = started
        self.ended = 0.0
        self.request = _UNREADABLE
        self.client = downstream.client
        self.request_id = gateway.new_request_id()
        self.route: Route | None = None
        self.captured: tuple[bytes, ...] = ()
        # What the upstream gets: target, Host, and the other header lines.
        self.target = b""
        self.host = b""
        self.fields = b""
        # The body as far as it waits for a connection, or may be needed again.
        self.pending = b""
        self.pending_trailers = b""
        self.request_complete = True
        self.replayable = True
        self.pool: Pool | None = None
        self.connection: Upstream | None = None
        # Watches over the first try, where a slow one is followed by a second.
        self.hedge: Hedge | None = None
        # What a mirror gets; then it is `downstream`, too.
        self.tee: Tee | None = None
        # What is noted of its trace if it is recorded, what the upstream is told of it, and where the trace's id stands
        # there; 0: it is in none.
        self.trace: Trace | None = None
        self.trace_lines = b""
        self.trace_at = 0
        # Whether a cookie brings its client back: the pool's, with this value, or that of its arm of a split, with what
        # the client is told of it.
        self.sticks = False
        self.sticky_token: bytes | None = None
        self.arm_cookie: StickyCookie | None = None
        self.arm_line = b""
        # Where it counts as long as it awaits an answer's head.
        self.admission: Admission | None = None
        # How often it was sent, or was to be, and how often for a retry; a bit for each endpoint where that came to
        # nothing.
        self.tries = 0
        self.retries = 0
        self.tried = 0
        self.endpoint = ""
        self.endpoint_index = 0
        # How long it has waited for a connection to come free, and for new ones.
        self.queued_s = 0.0
        self.connect_s = 0.0
        self.upstream_started = 0.0
        self.upstream_s = 0.0
        self.deadline = 0.0
        self.answer = AWAITED
        # Whether more of the answer has come behind its head.
        self.in_pieces = False
        # The header lines that the client got, without the framing.
        self.answer_fields = b""
        self.status = 0
        self.reason = ""
        self.bytes_in = 0
        self.bytes_out = 0

    # The line.

    def begin(self, request: RequestHead, body: bytes, complete: bool) -> int:
        """Walks a parsed head along the line, up to the first step that does not CONTINUE.

        `body` is the first of the request's body; `complete` says whether it is all of it.
        """
        self.request = request
        if body or not complete:
            self.pending = body
            self.bytes_in = len(body)
            self.request_complete = complete
        step = CONTINUE
        if self.downstream.needs_identifying or request.scheme:
            step = CONTINUE if identify(self) else REPLY
        if step == CONTINUE:
            step = self._match_route()
        if step == CONTINUE and self.pool is None:
            step = self._answer_locally()
        if step == CONTINUE:
            step = self._transform_request()
        if step == CONTINUE:
            step = self._forward(False)
        return step

    @property
    def trace_id(self) -> bytes:
        """b"" if it is in no trace. Seldom asked for, so it is not kept."""
        return self.trace_lines[self.trace_at : self.trace_at + ID_DIGITS] if self.trace_at else b""

    def begin_copy(self, original: Exchange, pool: Pool, body: bytes, trailers: bytes) -> None:
        """Sends the whole request of another exchange to `pool`, as that has made it for its own upstream."""
        self.request = original.request
        self.request_id = original.request_id
        self.client = original.client
        # Its edits of answers hold for this one's, too, so that the two can be compared.
        self.route = original.route
        self.target, self.host, self.fields = original.target, original.host, original.fields
        if original.trace is not None:
            self.fields = original.trace.for_copy(original.fields)
        self.pending, self.pending_trailers = body, trailers
        self.pool = pool
        self._forward(False)

    def refuse(self, failure: Failure) -> None:
        """Answers a request whose head could not be read, or not be accepted."""
        self.fail(failure)

    def _match_route(self) -> int:
        request = self.request
        snapshot = self.gateway.snapshot
        index, captured = snapshot.router.match(request.host_name, request.path, request.method, request)
        self.trace_lines = request.trace_lines
        if self.gateway.tracer is not None:
            self.gateway.tracer.begin(self, index)
        if index >= 0:
            self.route = route = snapshot.routes[index]
            self.captured = captured
            self.pool = self.gateway.route_pools[index]
            if self.pool is None and route.upstreams:
                self.pool = self._split(index, route)
            if route.timeout:
                self.deadline = self.started + route.timeout
            if route.mirror is not None:
                self._mirror(route)
            return CONTINUE
        if index == METHOD_NOT_ALLOWED:
            # RFC 9110 §15.5.6
            self.fail(errors.METHOD_NOT_ALLOWED, b"\r\nAllow: " + b", ".join(captured))
        else:
            self.fail(errors.NO_ROUTE)
        return REPLY

    def _mirror(self, route: Route) -> None:
        mirror = self.gateway.mirrors.get(route.name)
        tee = mirror.tee(self) if mirror is not None else None
        if tee is not None:
            self.downstream = self.tee = tee

    def _split(self, index: int, route: Route) -> Pool | None:
        gateway = self.gateway
        split, arms = gateway.route_splits[index], gateway.route_arms[index]
        if split is None:
            return None
        arm = split.pick(gateway.chance()) if arms is None else self._choose_arm(arms, split)
        return gateway.pools[route.upstreams[arm]]

    def _choose_arm(self, arms: Arms, split: WeightedSplit) -> int:
        """The arm that the request names, or the one that its client has, or by lot."""
        token = None
        sticky = arms.sticky
        if sticky is not None:
            self.sticks = True
            self.arm_cookie = sticky
            token = self.request.cookie(sticky.name)
        arm = arms.named(self.request)
        if arm >= 0:
            return arm
        arm = arms.kept(token)
        if arm < 0:
            arm = split.pick(self.gateway.chance())
        if sticky is not None:
            self.arm_line = sticky.line(arm, token)
        return arm

    def _answer_locally(self) -> int:
        """The route's own reply."""
        route = self.route
        if route is None or route.reply is None:
            return CONTINUE
        reply: LocalReply = route.reply
        lines = reply.lines
        if reply.location is not None:
            location = fill(reply.location, self.captured)
            lines += b"\r\nLocation: " + location + (self.request.query if reply.keep_query else b"")
        self.reply(encode.status_line(reply.status), reply.status, lines, reply.body)
        return REPLY

    def _transform_request(self) -> int:
        """Makes what the upstream gets: target, Host and fields."""
        request, route = self.request, self.route
        self.host = host = request.host or self._default_host()
        rewrite = None if route is None else route.rewrite
        if rewrite is None:
            self.target = request.path + request.query if request.query else request.path
        else:
            self._rewrite(rewrite)
        via = _VIA_1_1 if request.minor == 1 else _VIA_1_0
        fields = request.fields
        if self.sticks or (self.pool is not None and self.pool.sticky is not None):
            fields = self._take_cookies(fields)
        if self.fields:
            self.fields = b"".join((fields, self.fields, via, self.request_id, self.trace_lines))
        else:
            forwarded = self.downstream.forwarded
            self.fields = b"".join(
                (fields, forwarded, b'"', host, _FORWARDED_HOST, host, via, self.request_id, self.trace_lines)
            )
        if request.method in _COUNTS_FORWARDS and self._count_forward() == REPLY:
            return REPLY
        if route is not None and route.request_edits is not None:
            self.fields = edited(self.fields, route.request_edits)
        return CONTINUE

    def _take_cookies(self, fields: bytes) -> bytes:
        """The cookies by which a client comes back are the gateway's, and none of the upstream's business."""
        sticky = self.pool.sticky if self.pool is not None else None
        if sticky is not None:
            self.sticks = True
            self.sticky_token, fields = sticky.taken(fields)
        if self.arm_cookie is not None:
            fields = self.arm_cookie.taken(fields)[1]
        return fields

    def _default_host(self) -> bytes:
        return self.pool.host if self.pool is not None else b""

    def _count_forward(self) -> int:
        """Max-Forwards, counted down; at 0 the request goes no further (RFC 9110 §7.6.2)."""
        left = self.request.header(b"max-forwards")
        if left is None or not left.isdigit():
            return CONTINUE
        if int(left[:9]) == 0:
            self.reply(encode.status_line(200), 200, b"", b"")
            return REPLY
        line = b"\r\nMax-Forwards: %d" % (int(left[:9]) - 1)
        self.fields = finder(b"max-forwards").sub(line, self.fields)
        return CONTINUE

    def _rewrite(self, rewrite: Rewrite) -> None:
        request = self.request
        path = request.path
        if rewrite.path is not None:
            path = fill(rewrite.path, self.captured)
        elif rewrite.strip_prefix and path.startswith(rewrite.strip_prefix):
            path = b"/" + path[len(rewrite.strip_prefix) :].lstrip(b"/")
        self.target = path + request.query
        if rewrite.host:
            self.host = rewrite.host

    def _forward(self, fresh: bool) -> int:
        """Takes a connection and sends the request on it; `fresh`: not one that has been used before."""
        pool = self.pool
        if pool is None:
            self.fail(errors.INTERNAL)
            return REPLY
        if self.trace is not None:
            self.trace.asks(self.gateway.now())
        connection = pool.acquire(self, fresh)
        if connection is None:
            if not self.request_complete and self.answer == AWAITED:
                self.downstream.pause_reading()
            return SUSPEND
        self.connected(connection)
        return CONTINUE

    # From the pool.

    def connected(self, connection: Upstream) -> None:
        """There is a connection, at once or at last."""
        self.connection = connection
        self.endpoint = connection.endpoint_name
        self.endpoint_index = connection.endpoint_index
        self.upstream_started = self.gateway.now()
        if self.trace is not None:
            self.trace.sends(self)
        if not self.request_complete:
            self.downstream.resume_reading()
        connection.send_request(self, self.pending, self.request_complete)
        if self.pool is not None and self.pool.hedges is not None and self.request_complete:
            self.pool.hedges.sent(self, self.upstream_started)

    def not_connected(self, failure: Failure, endpoint_index: int) -> None:
        """No connection could be had, so nothing has been sent yet: each endpoint is tried once, and more often where
        the upstream's retries say so."""
        pool = self.pool
        if endpoint_index < 0 or pool is None:
            self.fail(failure)
            return
        self.endpoint_index = endpoint_index
        if self.trace is not None:
            self.trace.not_connected(self, endpoint_index, failure.reason)
        self.tried |= 1 << endpoint_index
        pool.tried_in_vain(endpoint_index, CONNECT_FAILURE)
        if pool.observer is not None:
            pool.observer.failed(endpoint_index)
        if pool.has_others(self.tried):
            self.tries += 1
            self._forward(False)
        elif not self._is_sent_again(CONNECT_FAILURE):
            self.fail(failure)

    def _is_sent_again(self, condition: int, status: int = 0, retry_after: bytes | None = None) -> bool:
        """Sends it again, now or later, if its upstream's retries say so, or leaves it to the second try that is under
        way. `condition` is one of policy.retry; 0: nothing that is retried after."""
        if self.hedge is not None and self.hedge.goes_on(status):
            self.upstream_s = 0.0
            if self.connection is None:
                # The second try still waits for one.
                self.upstream_started = 0.0
            return True
        pool = self.pool
        if not condition or pool is None or pool.retries is None or self.answer != AWAITED:
            return False
        has_others = pool.has_others(self.tried)
        # What one endpoint asks for is nothing to another.
        wait_s = pool.retries.wait_s(self, condition, status, None if has_others else retry_after)
        if wait_s < 0:
            return False
        if not has_others:
            # All have been tried. Not the last one again, if that can be helped.
            last = 1 << self.endpoint_index
            self.tried = last if pool.has_others(last) else 0
        self.tries += 1
        self.retries += 1
        self.upstream_started = self.upstream_s = 0.0
        if wait_s > 0:
            if not self.request_complete:
                self.downstream.pause_reading()
            pool.try_again(self, wait_s)
        else:
            self._forward(False)
        return True

    def try_again(self) -> None:
        """The wait before a retry is over."""
        if self.is_waiting():
            self._forward(False)

    # From downstream.

    def request_body(self, data: bytes) -> None:
        """More of the request's body."""
        self.bytes_in += len(data)
        if self.tee is not None:
            self.tee.request_body(data)
        if self.connection is None:
            self.pending += data
            return
        if self.pool is not None and self.pool.retries is not None and self.replayable:
            self._keep_body(data, self.pool.retries.max_body)
        else:
            self.replayable = False
            self.pending = b""
        self.connection.send_body(data)

    def _keep_body(self, data: bytes, size_max: int) -> None:
        """It may have to be sent again."""
        if self.answer == AWAITED and len(self.pending) + len(data) <= size_max:
            self.pending += data
        else:
            self.replayable = False
            self.pending = b""

    def body_leaves(self) -> None:
        """More of the request's body goes to the connection without passing here: it can't be sent again."""
        self.replayable = False
        self.pending = b""
        if self.tee is not None:
            self.tee.body_leaves()

    def request_end(self, trailers: bytes) -> None:
        """The request's body is complete."""
        self.request_complete = True
        if self.tee is not None:
            self.tee.trailers = trailers
        if self.connection is None:
            self.pending_trailers = trailers
        else:
            if self.replayable:
                self.pending_trailers = trailers
            self.connection.end_body(trailers)
            if self.pool is not None and self.pool.hedges is not None and self.answer == AWAITED:
                self.pool.hedges.sent(self, self.gateway.now())

    def client_left(self, failure: Failure) -> None:
        """Nobody waits for the answer any more."""
        if self.answer == ENDED:
            return
        self._release()
        if self.answer == AWAITED:
            self.status = failure.status
        self.reason = failure.reason
        self._finish()

    # From upstream.

    def response_head(self, response: ResponseHead, first: Data, complete: bool) -> None:
        """The final answer's head, with the first of its body, and whether that is all of it."""
        self.upstream_s = self.gateway.now() - self.upstream_started
        if self.trace is not None:
            self.trace.answered(response.status, self.upstream_started + self.upstream_s)
        observer = None if self.pool is None else self.pool.observer
        if observer is not None:
            observer.responded(self.endpoint_index, self.upstream_s, response.status)
        if response.status >= _LEAST_RETRIED and self._answer_is_retried(response, complete):
            return
        if self.hedge is not None:
            self.hedge.answered()
        if complete:
            self.connection = None
            if observer is not None:
                self._has_succeeded(response.status)
        else:
            self.in_pieces = True
        self.status = response.status
        self.answer = BEGUN
        if self.pending:
            # It was kept for another try.
            self.replayable = False
            self.pending = b""
        if self.admission is not None:
            self._conclude(response.status >= _SERVER_ERROR)
        self.bytes_out = len(first)
        fields = self._transform_response(response)
        if response.status == 426 and response.upgrade:
            # RFC 9110 §15.5.22: it must say what to upgrade to.
            fields += b"\r\nConnection: upgrade\r\nUpgrade: " + response.upgrade
        self.answer_fields = fields
        self.downstream.send_head(response.line, fields, response.body, response.content_length, first, complete)
        if complete:
            self._finish()
        elif self.downstream.congested and self.connection is not None:
            self.connection.pause_reading()

    def _transform_response(self, response: ResponseHead) -> bytes:
        fields = response.fields + _VIA_1_1 + self.request_id
        if not response.dated:
            # RFC 9110 §6.6.1
            fields += b"\r\nDate: " + self.gateway.http_date
        route = self.route
        if route is not None and route.response_edits is not None:
            fields = edited(fields, route.response_edits)
        return self._with_cookies(fields) if self.sticks else fields

    def _with_cookies(self, fields: bytes) -> bytes:
        """Tells the client how to come back, unless it knows."""
        cookies = self.arm_line
        if self.pool is not None and self.pool.sticky is not None:
            cookies += self.pool.sticky.line(self.endpoint_index, self.sticky_token)
        return for_one_client(fields) + cookies if cookies else fields

    def response_informational(self, response: ResponseHead) -> None:
        """An answer before the answer (RFC 9110 §15.2); HTTP/1.0 knows none."""
        if self.request.minor == 1:
            self.downstream.send_informational(response.line, response.fields)

    def response_body(self, data: bytes) -> None:
        self.bytes_out += len(data)
        self.downstream.send_body(data)

    def response_end(self, trailers: bytes) -> None:
        self.connection = None
        self._has_succeeded(self.status)
        self.downstream.end_body(trailers)
        self._finish()

    def switched_protocols(self, response: ResponseHead, first: bytes) -> None:
        """The upstream speaks another protocol from here on (RFC 9110 §15.2.2); the tunnel ends the exchange."""
        connection = self.connection
        if connection is None:
            return
        self.upstream_s = self.gateway.now() - self.upstream_started
        if self.trace is not None:
            self.trace.answered(response.status, self.upstream_started + self.upstream_s)
        self.status = response.status
        self.answer = BEGUN
        self.in_pieces = True
        self.bytes_out = len(first)
        self.deadline = 0.0
        if self.pool is not None and self.pool.observer is not None:
            self.pool.observer.responded(self.endpoint_index, self.upstream_s, self.status)
        self._has_succeeded(self.status)
        if self.admission is not None:
            self._conclude(False)
        self.answer_fields = fields = self._transform_response(response)
        upgrade = b"\r\nConnection: upgrade\r\nUpgrade: " + response.upgrade
        self.downstream.begin_tunnel(response.line, fields + upgrade, connection, response.upgrade, first)

    def tunnel_ended(self) -> None:
        self.connection = None
        self._finish()

    def upstream_failed(self, failure: Failure, unanswered: bool, reused: bool) -> None:
        """The connection broke, or what came on it can't be used. `unanswered`: not a byte of the answer came;
        `reused`: it had carried requests before, so the upstream may have closed it while this one was on its way.
        """
        self.connection = None
        if self.trace is not None:
            self.trace.failed(failure.reason, self.gateway.now())
        if unanswered and reused and self.replayable and self.request.method in IDEMPOTENT:
            self.upstream_started = 0.0
            if self.hedge is None or not self.hedge.goes_on(0):
                self._forward(True)
            return
        observer = None if self.pool is None else self.pool.observer
        condition = condition_of(failure, unanswered)
        if observer is not None:
            if condition == TIMEOUT:
                observer.timed_out(self.endpoint_index, self.gateway.now() - self.upstream_started)
            else:
                observer.failed(self.endpoint_index)
        self.tried |= 1 << self.endpoint_index
        if self.pool is not None:
            self.pool.tried_in_vain(self.endpoint_index, condition)
        if not self._is_sent_again(condition):
            self.fail(failure)

    def _has_succeeded(self, status: int) -> None:
        """The endpoint has done what it should."""
        if status < _SERVER_ERROR and self.pool is not None and self.pool.observer is not None:
            self.pool.observer.succeeded(self.endpoint_index, self.upstream_s)

    def _answer_is_retried(self, response: ResponseHead, complete: bool) -> bool:
        """Whether the request is sent again for its answer's status; the answer is thrown away then."""
        tried, connection = self.tried, self.connection
        self.tried |= 1 << self.endpoint_index
        self.connection = None
        if self._is_sent_again(STATUS, response.status, response.header(b"retry-after")):
            if self.pool is not None:
                self.pool.tried_in_vain(self.endpoint_index, STATUS)
            if not complete and connection is not None:
                connection.discard()
            return True
        self.tried, self.connection = tried, connection
        return False

    # Ends.

    def fail(self, failure: Failure, extra: bytes = b"") -> None:
        """Answers with a failure; breaks off when the answer has begun, so that it doesn't look complete."""
        if self.answer == ENDED:
            return
        self._release()
        self.reason = failure.reason
        if self.answer == BEGUN:
            self.downstream.abort()
            self._finish()
            return
        line, lines, body = encode.canned(failure)
        if failure.closes:
            self._ends_connection()
        self.reply(line, failure.status, lines + extra, body)

    def reply(self, line: bytes, status: int, lines: bytes, body: bytes) -> None:
        """An answer that comes from no upstream."""
        self.status = status
        self.answer = BEGUN
        fields = b"".join((lines, b"\r\nDate: ", self.gateway.http_date, _ID, self.request_id))
        route = self.route
        if route is not None and route.response_edits is not None:
            fields = edited(fields, route.response_edits)
        self.answer_fields = fields
        kind = LENGTH
        length = len(body)
        if status in (204, 304) or self.request.method == b"HEAD":
            kind = NO_BODY
            body = b""
            length = -1 if status in (204, 304) else length
        self.bytes_out = len(body)
        self.downstream.send_head(line, fields, kind, length, body, True)
        self._finish()

    def timed_out(self) -> None:
        """The route's time is over. Who has kept it waiting for an answer has been too slow."""
        if self.connection is not None and self.answer == AWAITED and self.request_complete:
            self.tried |= 1 << self.endpoint_index
            if self.pool is not None:
                self.pool.tried_in_vain(self.endpoint_index, TIMEOUT)
            if self.pool is not None and self.pool.observer is not None:
                self.pool.observer.timed_out(self.endpoint_index, self.gateway.now() - self.upstream_started)
        self.fail(errors.ROUTE_TIMEOUT)

    def _conclude(self, is_failure: bool | None) -> None:
        """No more answer's head is awaited; None: that says nothing of the upstream."""
        if self.admission is not None:
            self.admission.concluded(is_failure)
            self.admission = None

    def _ends_connection(self) -> None:
        # Later requests with the same header lines, on any connection, may be made from this head: it stays as it is.
        self.request = self.request.copied()
        self.request.keep_alive = False

    def crashed(self) -> None:
        """An exception on the way: a bug of ours, never the client's business."""
        self._ends_connection()
        self.fail(errors.INTERNAL)

    def is_waiting(self) -> bool:
        """Whether it still has a use for a connection."""
        return self.connection is None and self.answer == AWAITED

    def _release(self) -> None:
        if self.hedge is not None:
            self.hedge.dropped()
        if self.connection is not None:
            self.connection.discard()
            self.connection = None
        elif self.pool is not None:
            self.pool.forget(self)

    def _finish(self) -> None:
        self.answer = ENDED
        gateway = self.gateway
        self.ended = gateway.now()
        if self.admission is not None:
            # Whoever left or was refused here has learned nothing of the upstream.
            self._conclude(True if self.tried and self.status >= _SERVER_ERROR else None)
        gateway.counters[self.status // 100] += 1
        gateway.log.record(self)
        if self.trace is not None:
            gateway.traces.record(self)
        if gateway.failures is not None and (self.reason or self.status >= _SERVER_ERROR):
            gateway.failures.record(self)
        self.downstream.exchange_ended()


def fill(template: PathTemplate, captured: tuple[bytes, ...]) -> bytes:
    """A template's literals with the captured segments between them."""
    literals = template.literals
    parts = [literals[0]]
    for position, index in enumerate(template.indexes):
        parts.append(captured[index])
        parts.append(literals[position + 1])
    return b"".join(parts)


def edited(fields: bytes, edits: HeaderEdits) -> bytes:
    """Header lines with a route's edits made."""
    if edits.drop is not None:
        fields = edits.drop.sub(b"", fields)
    return fields + edits.lines
