"""The admin API: what it tells, what it changes, and whom it lets in."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import time
from pathlib import Path

import pytest

from tests.support.admin import TOKEN, Admin, admin_table, with_admin
from tests.support.client import Client, get
from tests.support.gateway import LISTEN, GatewayProcess, free_port
from tests.support.observe import eventually
from tests.support.troubled import Troubled


def config(endpoints: str = '"127.0.0.1:1"', more: str = "") -> str:
    return f"""
        [server]
        workers = 2

        [[listeners]]
        name = "in"
        address = "{LISTEN}"

        [upstreams.a]
        endpoints = [{endpoints}]
        {more}

        [[routes]]
        name = "fixed"
        path = "/fixed"
        respond = {{ body = "one" }}

        [[routes]]
        name = "rest"
        upstream = "a"

    """


def test_whoever_asks_learns_how_the_gateway_is(tmp_path: Path) -> None:
    text, admin = with_admin(config())
    with GatewayProcess(text, tmp_path) as gateway:
        assert admin.get("/healthz") == {"status": "ok"}
        assert admin.get("/readyz") == {"status": "ok"}
        status = admin.get("/api/status")
        assert (status["pid"], status["is_serving"], len(status["workers"])) == (gateway.pid, True, 2)
        assert [(row["name"], row["path"]) for row in admin.get("/api/routes")] == [("fixed", "/fixed"), ("rest", "/*")]
        shown = admin.get("/api/config")
        assert shown["upstreams"]["a"] == {"endpoints": ["127.0.0.1:1"]}


def test_endpoints_are_told_with_their_health_and_load(tmp_path: Path) -> None:
    more = 'health = { path = "/healthz", interval = "100ms", rise = 1, fall = 1 }\noutliers = true\nbreaker = true'
    with Troubled() as well, Troubled() as ill:
        text, admin = with_admin(config(f'"{well.address}", "{ill.address}"', more))
        with GatewayProcess(text, tmp_path) as gateway:
            ill.be("503")
            assert gateway.wait_until_it_says(f"{ill.address} fails its checks")
            with Client(gateway.address) as client:
                assert {client.ask(get()).status for _ in range(20)} == {200}

            def endpoints() -> dict[str, dict[str, object]]:
                (upstream,) = admin.get("/api/upstreams")
                assert (upstream["name"], upstream["breaker"]) == ("a", ["closed", "closed"])
                return {endpoint["name"]: endpoint for endpoint in upstream["endpoints"]}

            assert eventually(lambda: sum(endpoints()[well.address]["requests"].values()) == 20)  # type: ignore[attr-defined]
            now = endpoints()
            assert (now[well.address]["healthy"], now[ill.address]["healthy"]) == (True, False)
            assert now[well.address]["idle_connections"] == 1
            assert now[well.address]["mean_head_ms"] > 4  # type: ignore[operator]
            assert now[ill.address]["mean_head_ms"] is None
            # What is told of a request is what would become of it now.
            _, told = admin.post("/api/explain", {"method": "GET", "url": "http://a.test/x"})
            (pick,) = [step for step in told["steps"] if step["name"] == "pick endpoint"]
            assert pick["verdict"] == well.address
            assert [(one["name"], one["code"]) for one in pick["considered"]][1:] == [(ill.address, "unhealthy")]


def test_a_reload_is_asked_for_and_its_outcome_is_the_answer(tmp_path: Path) -> None:
    text, admin = with_admin(config())
    with GatewayProcess(text, tmp_path) as gateway:
        gateway.rewrite(text.replace("one", "two"))
        status, event = admin.post("/api/reload", None)
        assert (status, event["outcome"]) == (200, "done")
        with Client(gateway.address) as client:
            assert client.ask(get(b"/fixed")).body == b"two"
        gateway.rewrite("nonsense")
        status, event = admin.post("/api/reload", None)
        assert (status, event["outcome"]) == (409, "refused")
        assert "not valid TOML" in event["detail"]


def test_a_configuration_is_checked_and_changes_nothing(tmp_path: Path) -> None:
    text, admin = with_admin(config())
    with GatewayProcess(text, tmp_path) as gateway:
        right = text.replace(LISTEN, "127.0.0.1:1").encode()
        assert admin.ask("/api/config/check", "POST", right)[0] == 200
        status, _, body = admin.ask("/api/config/check", "POST", right + b"[server.tls]\n")
        (problem,) = json.loads(body)["problems"]
        assert (status, problem["path"], problem["message"]) == (422, "server.tls", "unknown key")
        tests = b'[[tests]]\nrequest = { method = "GET", url = "/fixed" }\nexpect = { route = "rest" }\n'
        status, _, body = admin.ask("/api/config/check", "POST", right + tests)
        assert (status, len(json.loads(body)["problems"])) == (422, 1)
        assert admin.ask("/api/config/check", "POST", b"\xff")[0] == 400
        with Client(gateway.address) as client:
            assert client.ask(get(b"/fixed")).body == b"one"


def test_a_request_is_explained(tmp_path: Path) -> None:
    text, admin = with_admin(config())
    with GatewayProcess(text, tmp_path):
        asked = {"method": "GET", "url": "http://a.test/x", "headers": [["X-A", "1"]]}
        status, told = admin.post("/api/explain", asked)
        assert (status, told["route"], told["upstream"]) == (200, "rest", "a")
        assert "X-A: 1" in told["request_headers"]
        for wrong in ({}, {"method": "GET", "url": "/a b"}, [], {"method": "GET", "url": "/", "headers": [["a"]]}):
            assert admin.post("/api/explain", wrong)[0] == 422, wrong
        assert admin.ask("/api/explain", "POST", b"{")[0] == 400


def test_whoever_does_not_know_the_token_learns_no_more_than_that_it_lives(tmp_path: Path) -> None:
    text, admin = with_admin(config(), f'token = "{TOKEN}"')
    with GatewayProcess(text, tmp_path):
        assert admin.get("/api/status")["is_serving"]
        # Nobody is told it.
        assert admin.get("/api/config")["admin"]["token"] == "(hidden)"
        for stranger in (Admin(admin.port), Admin(admin.port, TOKEN + "x"), Admin(admin.port, TOKEN[:-1])):
            assert stranger.get("/healthz") == {"status": "ok"}
            for path in ("/metrics", "/api/status", "/api/config", "/nowhere"):
                status, headers, body = stranger.ask(path)
                assert (status, headers["www-authenticate"]) == (401, "Bearer")
                assert json.loads(body)["status"] == 401
            assert stranger.ask("/api/reload", "POST")[0] == 401


def test_a_browser_s_page_is_not_let_in_where_there_is_no_token(tmp_path: Path) -> None:
    text, admin = with_admin(config())
    with GatewayProcess(text, tmp_path) as gateway:
        own = f"127.0.0.1:{admin.port}"
        assert admin.ask("/api/status", headers={"Host": "evil.test"})[0] == 403
        assert admin.ask("/api/reload", "POST", headers={"Origin": "http://evil.test"})[0] == 403
        assert "reload" not in gateway.stderr
        for host in (own, f"localhost:{admin.port}", "[::1]"):
            assert admin.ask("/api/status", headers={"Host": host})[0] == 200
        assert admin.ask("/api/status", headers={"Origin": f"http://{own}"})[0] == 200


class Stream:
    """Server-sent events, as they come."""

    def __init__(self, port: int, last: str = "") -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=15)
        self._connection.request("GET", "/api/events", headers={"Last-Event-ID": last} if last else {})
        self.response = self._connection.getresponse()

    def next(self) -> tuple[str, str, dict[str, object]]:
        """Its id, its kind, and what it says."""
        fields = {}
        while line := self.response.readline().decode().rstrip("\n"):
            name, _, value = line.partition(": ")
            fields[name] = value
        return fields.get("id", ""), fields["event"], json.loads(fields["data"])

    def ends(self) -> bool:
        return self.response.read() == b""

    def close(self) -> None:
        self._connection.close()


def test_events_come_as_they_happen_and_from_where_one_has_left_off(tmp_path: Path) -> None:
    health = 'health = { path = "/healthz", interval = "100ms", rise = 1, fall = 1 }'
    with Troubled() as backend:
        text, admin = with_admin(config(f'"{backend.address}"', health))
        with GatewayProcess(text, tmp_path) as gateway:
            stream = Stream(admin.port)
            assert stream.response.headers["content-type"].startswith("text/event-stream")
            assert admin.post("/api/reload", None)[0] == 200
            number, kind, event = stream.next()
            assert (number, kind, event["outcome"]) == ("1", "reload", "done")
            backend.be("503")
            number, kind, event = stream.next()
            assert (number, kind, event["outcome"]) == ("", "health", "failed")
            assert backend.address in str(event["detail"])
            assert admin.post("/api/endpoints", {"endpoint": backend.address, "draining": True})[0] == 200
            number, kind, _ = stream.next()
            while kind in ("health", "upstream"):
                # The check fails again, and too few endpoints are left.
                number, kind, _ = stream.next()
            assert (int(number) > 1, kind) == (True, "endpoint")
            stream.close()
            # What was told is told again to whoever says that he has not heard it.
            again = Stream(admin.port, str(int(number) - 1))
            assert again.next()[:2] == (number, "endpoint")
            # And one that listens keeps no gateway from stopping.
            began = time.monotonic()
            gateway.signal(signal.SIGTERM)
            assert gateway.wait() == 0
            assert time.monotonic() - began < 10
            again.close()


def test_what_is_not_there_is_said_in_json(tmp_path: Path) -> None:
    text, admin = with_admin(config())
    with GatewayProcess(text, tmp_path):
        for path, method, status in (
            ("/nowhere", "GET", 404),
            ("/api/reload", "GET", 405),
            ("/api/status", "POST", 405),
        ):
            got, headers, body = admin.ask(path, method)
            assert (got, headers["content-type"]) == (status, "application/problem+json")
            assert json.loads(body)["status"] == status


def test_a_reload_opens_moves_and_closes_it(tmp_path: Path) -> None:
    first, second = Admin(free_port()), Admin(free_port())

    def is_there(admin: Admin) -> bool:
        try:
            return admin.ask("/healthz")[0] == 200
        except ConnectionError:
            return False

    with GatewayProcess(config(), tmp_path) as gateway:
        for here, gone in ((first, second), (second, first)):
            gateway.rewrite(config() + admin_table(here.port))
            assert gateway.command("reload").returncode == 0
            assert eventually(lambda here=here, gone=gone: is_there(here) and not is_there(gone))
        # Its own token, at the same address.
        gateway.rewrite(config() + admin_table(second.port, f'token = "{TOKEN}"'))
        assert second.post("/api/reload", None)[0] == 200
        assert eventually(lambda: second.ask("/api/status")[0] == 401)
        gateway.rewrite(config())
        assert gateway.command("reload").returncode == 0
        assert eventually(lambda: not is_there(second))


def test_an_address_that_somebody_has_is_said_and_the_old_one_goes_on(tmp_path: Path) -> None:
    text, admin = with_admin(config())
    with socket.socket() as taken, GatewayProcess(text, tmp_path) as gateway:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        gateway.rewrite(config() + admin_table(port))
        assert gateway.command("reload").returncode == 1
        assert f"can't listen on 127.0.0.1:{port} (admin): Address already in use" in gateway.stderr
        assert admin.get("/healthz") == {"status": "ok"}


def test_a_gateway_whose_admin_address_is_taken_does_not_start(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        gateway = GatewayProcess(config() + admin_table(taken.getsockname()[1]), tmp_path)
        with pytest.raises(AssertionError, match=r"can't listen on 127\.0\.0\.1:\d+ \(admin\)"):
            gateway.start()


def test_after_an_upgrade_the_new_gateway_answers(tmp_path: Path) -> None:
    text, admin = with_admin(config())
    with GatewayProcess(text, tmp_path) as gateway:
        gateway.upgrade()

        def pid() -> int:
            try:
                return int(admin.get("/api/status")["pid"])
            except ConnectionError:
                return 0

        assert eventually(lambda: pid() == gateway.pid)


def test_it_may_be_a_unix_socket_that_only_its_owner_may_open(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    with GatewayProcess(config() + '[admin]\naddress = "unix:admin.sock"\n', tmp_path):
        assert path.stat().st_mode & 0o777 == 0o600
        with Client(str(path)) as client:
            assert client.ask(get(b"/healthz")).status == 200
    assert not path.exists()


def test_traffic_goes_nowhere_near_it(tmp_path: Path) -> None:
    text, _ = with_admin(config())
    with GatewayProcess(text, tmp_path) as gateway, Client(gateway.address) as client:
        assert client.ask(get(b"/api/status")).status == 502
