"""An OTLP receiver: it takes what it is sent by HTTP, and answers as it is told to."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span as ProtoSpan

from tests.support.observe import eventually

SERVER, CLIENT = ProtoSpan.SPAN_KIND_SERVER, ProtoSpan.SPAN_KIND_CLIENT


@dataclass(frozen=True)
class Span:
    """What a span says. Ids are hexadecimal digits, and times nanoseconds."""

    name: str
    kind: int
    trace_id: str
    span_id: str
    parent_id: str
    state: str
    started: int
    ended: int
    is_error: bool
    attributes: dict[str, Any]
    resource: dict[str, Any]
    links: tuple[str, ...] = field(default=())


def spans_of(body: bytes) -> list[Span]:
    """Those of one request."""
    request = ExportTraceServiceRequest.FromString(body)
    return [
        Span(
            one.name,
            one.kind,
            one.trace_id.hex(),
            one.span_id.hex(),
            one.parent_span_id.hex(),
            one.trace_state,
            one.start_time_unix_nano,
            one.end_time_unix_nano,
            one.status.code == 2,
            _attributes(one.attributes),
            _attributes(resource.resource.attributes),
            tuple(link.trace_id.hex() for link in one.links),
        )
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for one in scope.spans
    ]


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}


class Collector:
    """Listens from the start; `status` is what it answers, `body` with what. While `pause` is clear, it does not."""

    def __init__(self, port: int = 0) -> None:
        self.status = 200
        self.body = b""
        self.answer_headers: dict[str, str] = {}
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.refused = 0
        self.goes_on = threading.Event()
        self.goes_on.set()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                collector.goes_on.wait()
                status = collector.status
                if status == 200:
                    headers = {name.lower(): value for name, value in self.headers.items()}
                    collector.requests.append((self.path, headers, body))
                else:
                    collector.refused += 1
                self.send_response(status)
                for name, value in collector.answer_headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(collector.body)))
                self.end_headers()
                self.wfile.write(collector.body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def spans(self) -> list[Span]:
        """All so far."""
        return [span for _, _, body in self.requests for span in spans_of(body)]

    def servers(self, count: int) -> list[Span]:
        """The spans of as many exchanges; waits for them."""
        assert eventually(lambda: len(self._servers()) >= count, 20), f"{len(self._servers())} of {count} are there"
        return self._servers()

    def _servers(self) -> list[Span]:
        return [span for span in self.spans() if span.kind == SERVER]

    def below(self, server: Span) -> list[Span]:
        """Its tries, in the order of their times."""
        found = [span for span in self.spans() if span.parent_id == server.span_id]
        return sorted(found, key=lambda span: span.started)

    def close(self) -> None:
        self.goes_on.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
