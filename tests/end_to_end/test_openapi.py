"""The admin API does what fastgw/openapi.json says, and no more.

Schemathesis makes requests of the document, right ones and wrong ones, and holds the answers of a running gateway
against it. The same requests come each time, so that a failure is one for everybody.
"""

from __future__ import annotations

import http.client
import json
import tomllib
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from starlette.routing import Route

from fastgw import __version__, counters
from fastgw.config.addresses import HostPort
from fastgw.config.admin import AdminSettings
from fastgw.config.routing_table import Row
from fastgw.config.values import BALANCES, WEIGHT_MAX
from fastgw.errors import Problem
from fastgw.net.failure_record import FailureRecord
from fastgw.policy.breaker import STATES
from fastgw.runtime import admin as admin_api
from fastgw.runtime.events import Event
from fastgw.runtime.explanation import Considered, Explanation, Holds, Step
from fastgw.runtime.exposition import BOUNDS
from fastgw.runtime.failures import Failures
from fastgw.runtime.metrics import STATUS_CLASSES
from tests.support.admin import TOKEN, Admin, with_admin
from tests.support.client import Client, get
from tests.support.gateway import LISTEN, ROOT, GatewayProcess
from tests.support.observe import eventually
from tests.support.troubled import Troubled

DOCUMENT: dict[str, Any] = json.loads((ROOT / "fastgw" / "openapi.json").read_text(encoding="utf-8"))
SCHEMAS: dict[str, Any] = DOCUMENT["components"]["schemas"]
OPEN = ("/healthz", "/readyz", "/api/openapi.json")
# What schemathesis asks for each operation, beside one request for each limit and type that the document names.
EXAMPLES = 30
# The last event of a stream that is waited for.
STREAMED_EVENTS = 2


def test_the_document_is_openapi_3_1() -> None:
    assert list(OpenAPIV31SpecValidator(DOCUMENT).iter_errors()) == []


def operations() -> list[tuple[str, str]]:
    return [(path, method) for path, item in DOCUMENT["paths"].items() for method in item]


def test_it_has_the_routes_of_the_application_and_no_others() -> None:
    """Whoever adds a route describes it. A page for browsers is no part of the API, and HEAD is as GET (RFC 9110)."""
    gate: Any = None
    app = admin_api.make_app(gate, AdminSettings(HostPort("127.0.0.1:0"), Path()))
    routes = {
        (route.path, method.lower())
        for route in app.routes
        if isinstance(route, Route) and route.path not in admin_api._PAGES
        for method in (route.methods or ()) - {"HEAD"}
    }
    assert len(routes) == len(operations()) > 10
    assert routes == set(operations())


def test_it_is_installed_with_the_program() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "openapi.json" in project["tool"]["setuptools"]["package-data"]["fastgw"]


def test_its_operations_have_names_of_their_own() -> None:
    names = [DOCUMENT["paths"][path][method]["operationId"] for path, method in operations()]
    assert len(set(names)) == len(names)


def test_only_what_tells_nothing_takes_no_token() -> None:
    without = tuple(path for path, method in operations() if DOCUMENT["paths"][path][method].get("security") == [])
    assert without == OPEN
    assert frozenset(OPEN) == admin_api._OPEN - admin_api._PAGES.keys()
    # It is for anybody, and the version of a server is not.
    assert __version__ not in json.dumps(DOCUMENT)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("Event", Event),
        ("RoutingRow", Row),
        ("ConfigProblem", Problem),
        ("Explanation", Explanation),
        ("Step", Step),
        ("Considered", Considered),
        ("Setting", Holds),
    ],
)
def test_its_schemas_are_the_code_s_classes(name: str, kind: Any) -> None:
    assert list(SCHEMAS[name]["properties"]) == [field.name for field in fields(kind)]


def test_a_failure_is_described_as_it_is_told() -> None:
    record = FailureRecord(1.0, *("",) * 9, 503, "timeout", False, 1, 2.5, *("",) * 2)
    failures = Failures()
    failures.add(0, [record], 0)
    assert list(SCHEMAS["Failure"]["properties"]) == list(failures.last()[0])


def test_its_figures_and_words_are_the_code_s() -> None:
    assert SCHEMAS["Histogram"]["minItems"] == SCHEMAS["Histogram"]["maxItems"] == counters.HISTOGRAM
    bounds = SCHEMAS["Summary"]["properties"]["bounds_s"]
    assert bounds["minItems"] == bounds["maxItems"] == len(BOUNDS)
    assert tuple(SCHEMAS["CountsByStatus"]["properties"]) == STATUS_CLASSES
    endpoint, upstream = SCHEMAS["Endpoint"]["properties"], SCHEMAS["Upstream"]["properties"]
    assert tuple(endpoint["failures"]["properties"]) == counters.FAILURE_KINDS
    assert tuple(upstream["balance"]["enum"]) == BALANCES
    assert tuple(upstream["breaker"]["items"]["enum"]) == STATES
    assert SCHEMAS["Override"]["properties"]["weight"]["maximum"] == WEIGHT_MAX


def tables(schema: Any) -> Iterator[dict[str, Any]]:
    """All schemas of objects inside of a schema."""
    if isinstance(schema, dict):
        if schema.get("type") == "object":
            yield schema
        for inner in schema.values():
            yield from tables(inner)
    elif isinstance(schema, list):
        for inner in schema:
            yield from tables(inner)


def test_a_member_that_nobody_has_described_is_a_mistake() -> None:
    asked = ("Override", "Request", "Message", "LogMessage")
    closed = [
        table
        for name, schema in SCHEMAS.items()
        if name not in (*asked, "Config")
        for table in tables(schema)
        if "properties" in table
    ]
    assert len(closed) > 15
    for table in closed:
        assert table["additionalProperties"] is False, table
        assert table["required"] == list(table["properties"]), table
    assert all(SCHEMAS[name]["additionalProperties"] is False for name in asked)


# What a running gateway answers.


def config(directory: Path, endpoint: str) -> str:
    """Has something of each kind that the API tells of."""
    (directory / "endpoints.toml").write_text('endpoints = [{ address = "127.0.0.1:1", weight = 3, backup = true }]\n')
    return f"""
        [server]
        workers = 2

        [[listeners]]
        name = "in"
        address = "{LISTEN}"

        [upstreams.known]
        endpoints = ["{endpoint}", "127.0.0.1:1"]
        health = {{ path = "/healthz", interval = "200ms" }}
        outliers = true
        breaker = true
        retry = true

        [upstreams.found]
        discover = {{ file = "endpoints.toml" }}

        [[routes]]
        name = "fixed"
        path = "/fixed"
        match.headers.x-beta = "1"
        respond = {{ json = {{ large = 123456789012345678901234567890, day = 2030-01-31 }} }}

        [[routes]]
        name = "gone"
        host = "gone.test"
        redirect = {{ to = "https://example.com/", status = 308 }}

        [[routes]]
        name = "parts"
        path = "/parts"
        upstream = [{{ upstream = "known", weight = 3 }}, {{ upstream = "found", weight = 1 }}]

        [[routes]]
        name = "rest"
        upstream = "known"

    """


@pytest.fixture(scope="module")
def admin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Admin]:
    """Knows the token of a gateway that has had requests and events of many kinds."""
    directory = tmp_path_factory.mktemp("openapi")
    with Troubled() as backend:
        text, asking = with_admin(config(directory, backend.address), f'token = "{TOKEN}"')
        with GatewayProcess(text, directory) as gateway:
            with Client(gateway.address) as client:
                for path in (b"/x", b"/fixed", b"/y"):
                    client.ask(get(path))
                client.ask(get(b"/x", host=b"[::1"))
            assert asking.post("/api/endpoints", {"endpoint": backend.address, "draining": False})[0] == 200
            assert asking.post("/api/reload", None)[0] == 200
            # Workers tell what they have counted twice a second.
            assert eventually(lambda: any(worker["requests"] for worker in asking.get("/api/summary")["workers"]))
            assert eventually(lambda: asking.get("/api/failures")["failures"])
            yield asking


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Admin]:
    """Asks a gateway without a token, which lets in this machine's processes."""
    directory = tmp_path_factory.mktemp("pages")
    text, asking = with_admin(config(directory, "127.0.0.1:2"))
    with GatewayProcess(text, directory) as gateway:
        gateway.rewrite("nonsense")
        yield asking


API = schemathesis.openapi.from_path(
    ROOT / "fastgw" / "openapi.json",
    config=schemathesis.Config.from_dict(
        {
            # An event stream never ends: so much of it is an answer. One that may have nothing to tell for a while
            # wants a "request-timeout" of 0.2 among the operations below: what has come by then is the answer.
            "max-stream-events": STREAMED_EVENTS,
            "request-timeout": 10,
            # The token is what the test says.
            "generation": {"with-security-parameters": False},
            "operations": [
                # Nobody may have asked for anything meanwhile.
                {"include-name": "GET /api/log", "request-timeout": 0.2},
                # Any text is right to ask about, and hardly any is a configuration.
                {
                    "include-name": "POST /api/config/check",
                    "checks": {"positive_data_acceptance": {"expected-statuses": [200, 422]}},
                },
                # The schema says of a URL that it has no white space; there is more to it.
                {
                    "include-name": "POST /api/explain",
                    "checks": {"positive_data_acceptance": {"expected-statuses": [200, 422]}},
                },
            ],
        }
    ),
)


@schemathesis.serializer("application/toml")
def as_it_is(_context: Any, value: Any) -> bytes:
    """The body of a check is a text, whatever it is."""
    return value if isinstance(value, bytes) else str(value).encode()


@API.parametrize()
@settings(max_examples=EXAMPLES, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
def test_answers_are_as_described(admin: Admin, case: schemathesis.Case) -> None:
    """All checks of schemathesis: status, content type, headers, schema; wrong input is refused and right input is not;
    other methods get 405; nothing answers without the token. `POST /api/reload` takes no input, so that it reloads a
    few times and no more. Of the stream, the events that the gateway remembers are read, and then it is left."""
    case.call_and_validate(base_url=f"http://127.0.0.1:{admin.port}", headers={"Authorization": f"Bearer {TOKEN}"})


def resolved(schema: Any) -> Draft202012Validator:
    """Of a part of the document that may refer to other parts."""
    return Draft202012Validator(
        {**schema, "components": DOCUMENT["components"]}, format_checker=Draft202012Validator.FORMAT_CHECKER
    )


def described(path: str, method: str, status: int) -> dict[str, Any]:
    """The response of an operation."""
    response: dict[str, Any] = DOCUMENT["paths"][path][method]["responses"][str(status)]
    if "$ref" in response:
        response = DOCUMENT["components"]["responses"][response["$ref"].rpartition("/")[2]]
    return response


def assert_is_described(path: str, method: str, status: int, headers: http.client.HTTPMessage, body: bytes) -> None:
    response = described(path, method, status)
    kind = headers["content-type"].partition(";")[0]
    resolved(response["content"][kind]["schema"]).validate(json.loads(body))
    assert [name for name in response.get("headers", ()) if name not in headers] == []


@pytest.mark.parametrize(("path", "method"), operations())
def test_nothing_but_what_is_open_answers_without_the_token(admin: Admin, path: str, method: str) -> None:
    stranger = Admin(admin.port)
    for sent in (
        "",
        "Bearer",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        f"Basic {TOKEN}",
        TOKEN,
        "Bearer \xff",
    ):
        answer = stranger.ask(path, method.upper(), headers={"Authorization": sent} if sent else {})
        assert answer[0] == (200 if path in OPEN else 401), sent
        assert_is_described(path, method, *answer)
    # Nor does it say which methods it would take.
    assert stranger.ask(path, "PATCH")[0] == (405 if path in OPEN else 401)


@pytest.mark.parametrize(("path", "method"), operations())
def test_nothing_but_what_is_open_answers_another_site_s_page(pages: Admin, path: str, method: str) -> None:
    for headers in ({"Host": "evil.test"}, {"Origin": "http://evil.test"}, {"Host": "[", "Origin": "null"}):
        answer = pages.ask(path, method.upper(), headers=headers)
        assert answer[0] == (200 if path in OPEN else 403), headers
        assert_is_described(path, method, *answer)


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/api/endpoints", {"endpoint": "127.0.0.1:1", "upstream": "known", "weight": 2.0}, 200),
        ("/api/endpoints", {"endpoint": "127.0.0.1:1", "weight": 2}, 404),
        ("/api/explain", {"method": "GET", "url": "/parts"}, 200),
        ("/api/explain", {"method": "POST", "url": "http://a.test/x", "headers": [["Content-Length", "3"]]}, 200),
        ("/api/explain", {"method": "GET", "url": "http://gone.test/"}, 200),
        ("/api/explain", {"method": "GET", "url": "/fixed", "headers": [["X-Beta", "1"]]}, 200),
        ("/api/explain", {"method": "GET", "url": "*"}, 200),
    ],
)
def test_what_is_asked_rightly_is_answered_as_described(admin: Admin, path: str, body: object, status: int) -> None:
    answer = admin.ask(path, "POST", json.dumps(body).encode())
    assert answer[0] == status, answer[2]
    assert_is_described(path, "post", *answer)


def test_a_body_that_is_too_large_is_answered_as_described(admin: Admin) -> None:
    for path, size in (("/api/endpoints", 1 << 20), ("/api/explain", 1 << 20), ("/api/config/check", 64 << 20)):
        answer = admin.ask(path, "POST", bytes(size + 1))
        assert answer[0] == 413
        assert_is_described(path, "post", *answer)
        assert admin.ask(path, "POST", bytes(size if size < 1 << 21 else 1))[0] != 413


def test_a_reload_that_is_refused_is_answered_as_described(pages: Admin) -> None:
    """What `pages` would load is no configuration."""
    answer = pages.ask("/api/reload", "POST")
    assert answer[0] == 409
    assert_is_described("/api/reload", "post", *answer)


def test_an_event_is_as_described(admin: Admin) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", admin.port, timeout=10)
    connection.request("GET", "/api/events", headers={"Authorization": f"Bearer {TOKEN}"})
    with connection.getresponse() as response:
        for number in range(1, STREAMED_EVENTS + 1):
            lines = iter(response.readline, b"\n")
            message = dict(line.decode().rstrip("\n").split(": ", 1) for line in lines)
            resolved(SCHEMAS["Message"]).validate(message)
            event = json.loads(message["data"])
            resolved(SCHEMAS["Event"]).validate(event)
            assert (message["id"], message["event"]) == (str(event["number"]), event["kind"])
            assert event["number"] >= number
    connection.close()
