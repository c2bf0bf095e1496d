"""What can go wrong, in two kinds.

Cold: `ConfigError` carries every problem of a configuration at once, each with its place in the file.
Hot: `Failure` is a prebuilt answer. The data plane returns failures, it never raises them; each says whose fault
it was, and whether the request may be tried again. `proxy_error` is the token of RFC 9209 §2.3 ("" when the
client is at fault and no Proxy-Status is due).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a configuration: where it is, what it is, what to write instead."""

    file: str
    line: int
    column: int
    path: str
    message: str
    suggestion: str = ""

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}: " if self.line else f"{self.file}: "
        what = f"{self.path}: {self.message}" if self.path else self.message
        return f"{where}{what}; {self.suggestion}" if self.suggestion else f"{where}{what}"


class ConfigError(Exception):
    """The configuration can't be used; `problems` says all that is wrong with it, in the order of the file."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Failure:
    """A way for an exchange to fail, and the answer to it.

    `reason` is the stable code of the access log; `detail` the sentence in the answer's body, which tells nothing
    of the inside; `closes` that the client's connection can't be used after it.
    """

    status: int
    reason: str
    detail: str
    closes: bool = False
    proxy_error: str = ""
    retry_after_s: int = 0


# The client's fault: what it sent can't be understood, or is read differently by different parsers.
MALFORMED = Failure(400, "malformed-request", "The request is not well-formed HTTP/1.1.", closes=True)
BAD_HOST = Failure(400, "bad-host", "The request needs exactly one valid Host header.", closes=True)
BAD_TARGET = Failure(400, "bad-target", "The request target is not valid.", closes=True)
BAD_FRAMING = Failure(400, "bad-framing", "The length of the request body is ambiguous.", closes=True)
BAD_CHUNK = Failure(400, "bad-chunk", "The chunked request body is not well-formed.", closes=True)
BAD_EXPECTATION = Failure(417, "bad-expectation", "The only expectation supported is 100-continue.", closes=True)
CODING_UNKNOWN = Failure(501, "unknown-coding", "The only transfer coding supported is chunked.", closes=True)
PLAIN_TEXT = Failure(
    400, "plain-text", "This port speaks HTTPS, and the request came in plain text: write https://.", closes=True
)
MISDIRECTED_HOST = Failure(
    421, "misdirected-host", "The request is for a host that has another certificate than the connection.", closes=True
)
MISDIRECTED = Failure(421, "misdirected", "The request is for another scheme than it came by.", closes=True)
METHOD_UNKNOWN = Failure(501, "unknown-method", "The request method is not supported.", closes=True)
CONNECT_REFUSED = Failure(501, "connect-refused", "CONNECT is not supported.", closes=True)
VERSION_UNKNOWN = Failure(505, "unknown-version", "The HTTP version is not supported.", closes=True)
HEAD_TOO_LARGE = Failure(431, "head-too-large", "The request head is too large.", closes=True)
TOO_MANY_HEADERS = Failure(431, "too-many-headers", "The request has too many headers.", closes=True)
TARGET_TOO_LONG = Failure(414, "target-too-long", "The request target is too long.", closes=True)
BODY_TOO_LARGE = Failure(413, "body-too-large", "The request body is too large.", closes=True)
HEAD_TIMEOUT = Failure(408, "head-timeout", "The request head took too long.", closes=True)
BODY_TIMEOUT = Failure(408, "body-too-slow", "The request body came too slowly.", closes=True)
CLIENT_LEFT = Failure(499, "client-left", "The client closed the connection.", closes=True)
WRITE_TIMEOUT = Failure(499, "client-too-slow", "The client did not read its answer.", closes=True)

# The gateway's own decisions.
NO_ROUTE = Failure(404, "no-route", "No route matches the request.", proxy_error="destination_not_found")
METHOD_NOT_ALLOWED = Failure(405, "method-not-allowed", "No route takes this method for this target.")
CONNECTION_LIMIT = Failure(
    503,
    "connection-limit",
    "The gateway has too many connections.",
    closes=True,
    proxy_error="connection_limit_reached",
    retry_after_s=1,
)
QUEUE_FULL = Failure(
    503,
    "queue-full",
    "Too many requests wait for the backend.",
    proxy_error="connection_limit_reached",
    retry_after_s=1,
)
QUEUE_TIMEOUT = Failure(
    503,
    "queue-timeout",
    "No connection to the backend came free.",
    proxy_error="connection_limit_reached",
    retry_after_s=1,
)
NO_ENDPOINT = Failure(
    503,
    "no-endpoint",
    "No backend is available.",
    proxy_error="destination_unavailable",
    retry_after_s=1,
)
BREAKER_OPEN = Failure(
    503,
    "breaker-open",
    "The backend fails, and is spared for a moment.",
    proxy_error="destination_unavailable",
    retry_after_s=1,
)
OVERLOADED = Failure(
    503,
    "overloaded",
    "The backend has as many requests as it can bear.",
    proxy_error="connection_limit_reached",
    retry_after_s=1,
)
INTERNAL = Failure(500, "internal-error", "The gateway failed.", closes=True, proxy_error="proxy_internal_error")

# The upstream's fault.
CONNECT_FAILED = Failure(502, "connect-failed", "The backend refused the connection.", proxy_error="connection_refused")
CONNECT_TIMEOUT = Failure(
    504, "connect-timeout", "The backend did not accept a connection in time.", proxy_error="connection_timeout"
)
NAME_UNRESOLVED = Failure(502, "name-unresolved", "The backend's name has no address.", proxy_error="dns_error")
UPSTREAM_TLS_UNTRUSTED = Failure(
    502, "upstream-tls-untrusted", "The backend's certificate is not trusted.", proxy_error="tls_certificate_error"
)
UPSTREAM_TLS_NAME_MISMATCH = Failure(
    502, "upstream-tls-name-mismatch", "The backend's certificate is another's.", proxy_error="tls_certificate_error"
)
UPSTREAM_TLS_EXPIRED = Failure(
    502, "upstream-tls-expired", "The backend's certificate is out of date.", proxy_error="tls_certificate_error"
)
UPSTREAM_TLS_FAILED = Failure(
    502, "upstream-tls-failed", "No TLS connection to the backend could be made.", proxy_error="tls_protocol_error"
)
UPSTREAM_RESET = Failure(
    502, "upstream-reset", "The backend closed the connection early.", proxy_error="connection_terminated"
)
UPSTREAM_MALFORMED = Failure(
    502, "upstream-malformed", "The backend's answer is not well-formed HTTP.", proxy_error="http_protocol_error"
)
UPSTREAM_HEAD_TOO_LARGE = Failure(
    502,
    "upstream-head-too-large",
    "The head of the backend's answer is too large.",
    proxy_error="http_response_header_section_size",
)
RESPONSE_TIMEOUT = Failure(
    504, "response-timeout", "The backend did not answer in time.", proxy_error="http_response_timeout"
)
ROUTE_TIMEOUT = Failure(504, "route-timeout", "The exchange took too long.", proxy_error="http_response_timeout")
UPSTREAM_STALLED = Failure(
    504, "upstream-stalled", "The backend stopped in the middle of its answer.", proxy_error="connection_read_timeout"
)

# The reasons of failures that a client has brought upon itself, whatever their status.
CLIENTS_REASONS = frozenset(
    one.reason
    for one in tuple(globals().values())
    if isinstance(one, Failure) and (not one.proxy_error or one is NO_ROUTE)
)
