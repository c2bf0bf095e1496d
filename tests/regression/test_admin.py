"""What the admin API once answered with a 500, or never, or as if it were something else."""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from fastgw.runtime.admin_protocol import CONNECTIONS_MAX, HEAD_S
from tests.support.admin import Admin, with_admin
from tests.support.gateway import LISTEN, GatewayProcess


def config(more: str = "") -> str:
    return f"""
        [server]
        workers = 1

        [[listeners]]
        address = "{LISTEN}"

        [upstreams.a]
        endpoints = ["127.0.0.1:1"]

        [[routes]]
        upstream = "a"
        {more}

    """


@contextmanager
def running(directory: Path, text: str) -> Iterator[tuple[GatewayProcess, Admin]]:
    with_it, admin = with_admin(text)
    with GatewayProcess(with_it, directory) as gateway:
        yield gateway, admin


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[GatewayProcess, Admin]]:
    with running(tmp_path_factory.mktemp("admin"), config()) as both:
        yield both


@pytest.fixture
def admin(asked: tuple[GatewayProcess, Admin]) -> Admin:
    return asked[1]


def posted(admin: Admin, path: str, body: bytes) -> tuple[int, Any]:
    status, _, answer = admin.ask(path, "POST", body)
    return status, json.loads(answer)


def test_a_method_that_a_path_does_not_take_is_answered_with_those_that_it_takes(admin: Admin) -> None:
    """405 had no Allow (RFC 9110, section 15.5.6)."""
    for path, method, allowed in (
        ("/api/status", "OPTIONS", {"GET", "HEAD"}),
        ("/api/events", "POST", {"GET", "HEAD"}),
        ("/api/reload", "GET", {"POST"}),
        ("/healthz", "DELETE", {"GET", "HEAD"}),
    ):
        status, headers, _ = admin.ask(path, method)
        assert (status, set(headers["allow"].split(", "))) == (405, allowed)


def test_the_head_of_the_event_stream_has_an_end(admin: Admin) -> None:
    """HEAD streamed without end, to nobody, and the next request of the connection was never answered."""
    with socket.create_connection(("127.0.0.1", admin.port), timeout=5) as sock:
        sock.sendall(b"HEAD /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        answers = b"".join(iter(lambda: sock.recv(65536), b""))
    first, second, _ = answers.split(b"\r\n\r\n")
    assert b"content-type: text/event-stream" in first
    assert b"content-length" not in first
    assert second.startswith(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize("last", ["9" * 5000, "1000000000000", "-1", "1.5", "x"])
def test_an_event_s_id_that_was_never_given_out_is_no_bug(admin: Admin, last: str) -> None:
    """5,000 digits were answered with 500; one of a gateway that was here before left out all that has happened."""
    assert posted(admin, "/api/endpoints", b'{"endpoint": "127.0.0.1:1", "draining": false}')[0] == 200
    with socket.create_connection(("127.0.0.1", admin.port), timeout=5) as sock:
        sock.sendall(f"GET /api/events HTTP/1.1\r\nHost: localhost\r\nLast-Event-ID: {last}\r\n\r\n".encode())
        with sock.makefile("rb") as answer:
            assert answer.readline() == b"HTTP/1.1 200 OK\r\n"
            # The first event.
            assert next(line for line in answer if line.startswith(b"id: ")) == b"id: 1\n"


def test_nobody_is_sent_to_where_the_host_says(tmp_path: Path) -> None:
    """A path with a slash too many was redirected to http://HOST/, whatever the request said as Host."""
    text, admin = with_admin(config(), 'token = "a-token-that-nobody-guesses"')
    with GatewayProcess(text, tmp_path):
        status, headers, _ = admin.ask("/api/status/", headers={"Host": "evil.test"})
        assert (status, headers["content-type"], headers["location"]) == (404, "application/problem+json", None)


def test_whole_numbers_of_any_size_are_told(tmp_path: Path) -> None:
    """Of more than 64 bits they were answered with 500."""
    large = 10**30
    route = f"""
        [[routes]]
        path = "/large"
        respond = {{ json = {{ large = {large}, day = 2030-01-31 }} }}
    """
    text = config(route).replace('["127.0.0.1:1"]', f'["127.0.0.1:1"]\n        max_queued = {large}')
    with running(tmp_path, text) as (_, admin):
        told = admin.get("/api/config")
        assert told["upstreams"]["a"]["max_queued"] == large
        assert told["routes"][1]["respond"]["json"] == {"large": large, "day": "2030-01-31"}
        status, explained = posted(admin, "/api/explain", b'{"method": "GET", "url": "/"}')
        holds = {one["key"]: one["value"] for step in explained["steps"] for one in step["holds"]}
        assert (status, holds["upstreams.a.max_queued"]) == (200, large)


def test_a_directory_whose_name_is_no_utf_8_is_told(tmp_path: Path) -> None:
    """Its configuration's path made status, events and reloads answer with 500."""
    directory = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    directory.mkdir()
    with running(directory, config()) as (_, admin):
        assert admin.get("/api/status")["config"].endswith("/?/config.toml")
        status, event = posted(admin, "/api/reload", b"")
        assert (status, event["detail"]) == (200, f"{tmp_path}/?/config.toml is in force")


@pytest.mark.parametrize("body", [b"[]", b"null", b'"x"', b"5", b"{}"])
@pytest.mark.parametrize("path", ["/api/endpoints", "/api/explain"])
def test_json_of_another_shape_is_told_in_words_of_json(admin: Admin, path: str, body: bytes) -> None:
    """It was told in Python's words, and at one path with 400."""
    status, problem = posted(admin, path, body)
    assert (status, problem["title"]) == (422, "Unprocessable Content")
    assert re.match(r'not a JSON object; write \{|"\w+" is missing; write \{', problem["detail"])


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/explain", {"method": 5, "url": 7}),
        ("/api/explain", {"method": "GET", "url": "/", "headers": {"ab": "cd"}}),
        ("/api/explain", {"method": "GET", "url": "/", "headers": ["ab"]}),
        ("/api/explain", {"method": "GET", "url": "/", "headers": [["A", 1]]}),
        ("/api/explain", {"method": "GET", "url": "/", "header": [["A", "b"]]}),
        ("/api/explain", {"method": "GET", "url": "/", "headers": [["A", "b\r\nX-Smuggled: c"]]}),
        ("/api/endpoints", {"endpoint": "127.0.0.1:1", "draining": False, "wieght": 3}),
    ],
)
def test_what_was_not_meant_is_refused(admin: Admin, path: str, body: object) -> None:
    """It was answered as something else: letters as headers, a line break as two of them, a mistyped name as none."""
    status, _ = posted(admin, path, json.dumps(body).encode())
    assert status == 422


def test_a_number_with_a_fraction_of_zero_is_a_whole_one(admin: Admin) -> None:
    """JSON has one kind of number, and 2.0 was refused."""
    status, event = posted(admin, "/api/endpoints", b'{"endpoint": "127.0.0.1:1", "weight": 2.0}')
    assert (status, event["detail"]) == (200, "127.0.0.1:1 of upstream a takes requests, with weight 2")


def test_nobody_writes_lines_of_their_own_on_standard_error(asked: tuple[GatewayProcess, Admin]) -> None:
    """The name of an endpoint that is not there was told as it came: with line breaks, escapes, or 3 MB of it, which
    the last events kept."""
    gateway, admin = asked
    for name in ("x\nfastgw: event 7: reload done", "x\x1b[2J", "x\x9b2J", "x" * 3_000_000):
        for body in ({"endpoint": name, "draining": True}, {"endpoint": "x", "upstream": name, "draining": True}):
            assert posted(admin, "/api/endpoints", json.dumps(body).encode())[0] in (413, 422)
    assert "event 7: reload" not in gateway.stderr
    assert "\x1b" not in gateway.stderr
    assert len(admin.ask("/api/status")[2]) < 10_000


def test_a_file_that_begins_with_a_byte_order_mark_is_checked_as_it_is_loaded(
    asked: tuple[GatewayProcess, Admin],
) -> None:
    """It was refused, and loaded without a word."""
    gateway, admin = asked
    text = gateway.config_path.read_bytes()
    assert posted(admin, "/api/config/check", b"\xef\xbb\xbf" + text) == (200, {"problems": []})


def test_whoever_asks_nothing_took_all_the_supervisor_s_descriptors(tmp_path: Path) -> None:
    """There was no end to connections, nor to how long one might wait with its head."""
    with running(tmp_path, config()) as (gateway, admin), ExitStack() as connections:
        silent = [
            connections.enter_context(socket.create_connection(("127.0.0.1", admin.port)))
            for _ in range(CONNECTIONS_MAX + 1)
        ]
        silent[-1].settimeout(10)
        assert silent[-1].recv(100).startswith(b"HTTP/1.1 503 ")
        # Those who came first have had their time.
        silent[0].settimeout(HEAD_S + 10)
        assert silent[0].recv(100) == b""
        assert admin.ask("/healthz")[0] == 200
        assert gateway.command("reload").returncode == 0
