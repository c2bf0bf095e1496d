"""Defects of the admin API's server, when its settings change."""

from __future__ import annotations

import contextlib
import signal
import time
from pathlib import Path

from tests.support.admin import TOKEN, Admin, admin_table
from tests.support.client import Client, get
from tests.support.gateway import LISTEN, GatewayProcess, free_port
from tests.support.observe import eventually, resident_bytes

_CONFIG = f"""
    [server]
    workers = 1

    [[listeners]]
    address = "{LISTEN}"

    [[routes]]
    respond.body = "one"

"""


def watching(admin: Admin) -> Client:
    """Whoever listens to events, which have no end."""
    client = Client(("127.0.0.1", admin.port))
    client.send(get(b"/api/events", host=b"127.0.0.1"))
    assert client.read_until(b"\r\n\r\n").startswith(b"HTTP/1.1 200 ")
    return client


def is_there(admin: Admin) -> bool:
    try:
        return admin.ask("/healthz")[0] == 200
    except ConnectionError:
        return False


def test_a_reload_right_after_one_that_moved_it_was_refused_or_moved_it_nowhere(tmp_path: Path) -> None:
    first, second = Admin(free_port()), Admin(free_port())
    with GatewayProcess(_CONFIG + admin_table(first.port), tmp_path) as gateway:
        gateway.rewrite(_CONFIG + admin_table(second.port))
        # A server that stops waits for who has not sent the whole of a request.
        with Client(("127.0.0.1", first.port)) as client:
            client.send(b"POST /api/config/check HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n")
            time.sleep(0.2)
            assert gateway.command("reload").returncode == 0
            again = gateway.command("reload")
            assert again.returncode == 0, again.stdout
            gateway.rewrite(_CONFIG + admin_table(first.port))
            assert gateway.command("reload").returncode == 0
        assert eventually(lambda: is_there(first) and not is_there(second))


def test_a_stop_right_after_a_reload_that_moved_it_ended_with_a_traceback(tmp_path: Path) -> None:
    first, second = Admin(free_port()), Admin(free_port())
    with GatewayProcess(_CONFIG + admin_table(first.port), tmp_path) as gateway, watching(first):
        gateway.rewrite(_CONFIG + admin_table(second.port))
        assert gateway.command("reload").returncode == 0
        gateway.signal(signal.SIGTERM)
        assert gateway.wait() == 0
        assert "Traceback" not in gateway.stderr


def test_whoever_listened_to_events_was_cut_off_with_a_traceback(tmp_path: Path) -> None:
    first, second = Admin(free_port()), Admin(free_port())
    with GatewayProcess(_CONFIG + admin_table(first.port), tmp_path) as gateway:
        with watching(first) as listener:
            gateway.rewrite(_CONFIG + admin_table(second.port))
            assert gateway.command("reload").returncode == 0
            assert b"event: reload" in listener.read_to_end()
        with watching(second) as listener:
            gateway.signal(signal.SIGTERM)
            # The end of the chunks: nothing is missing.
            assert listener.read_to_end().endswith(b"\r\n0\r\n\r\n")
        assert gateway.wait() == 0
        assert "Traceback" not in gateway.stderr


def test_a_head_without_an_end_took_the_supervisor_s_memory(tmp_path: Path) -> None:
    admin = Admin(free_port(), TOKEN)
    with GatewayProcess(_CONFIG + admin_table(admin.port, f'token = "{TOKEN}"'), tmp_path) as gateway:
        before = resident_bytes(gateway.pid)
        with Client(("127.0.0.1", admin.port)) as stranger:
            stranger.send(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n")
            with contextlib.suppress(ConnectionError):
                for number in range(100):
                    stranger.send(b"".join(b"X-%d-%d: %b\r\n" % (number, one, b"a" * 8000) for one in range(64)))
        assert admin.get("/healthz") == {"status": "ok"}
        assert resident_bytes(gateway.pid) - before < 16 * 1024 * 1024


def test_any_page_in_a_browser_had_metrics_made_by_asking_for_them_as_a_picture(tmp_path: Path) -> None:
    admin = Admin(free_port())
    with GatewayProcess(_CONFIG + admin_table(admin.port), tmp_path):
        for site, status in (("cross-site", 403), ("same-site", 403), ("same-origin", 200), ("none", 200)):
            assert admin.ask("/metrics", headers={"Sec-Fetch-Site": site})[0] == status


def test_a_scheme_in_other_letters_was_no_token(tmp_path: Path) -> None:
    """RFC 9110 §11.1: schemes are told apart without regard to case."""
    admin = Admin(free_port())
    with GatewayProcess(_CONFIG + admin_table(admin.port, f'token = "{TOKEN}"'), tmp_path):
        for sent, status in (
            (f"bearer {TOKEN}", 200),
            (f"BEARER {TOKEN}", 200),
            (f"Basic {TOKEN}", 401),
            (f"bearer {TOKEN.upper()}", 401),
            (TOKEN, 401),
            ("bearer", 401),
        ):
            assert admin.ask("/api/status", headers={"Authorization": sent})[0] == status, sent
