"""The dashboard, in a real browser."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count, islice
from pathlib import Path

from tests.support.admin import TOKEN, Admin, with_admin
from tests.support.browser import Browser
from tests.support.client import Client, Received, get
from tests.support.gateway import LISTEN, GatewayProcess
from tests.support.load import Load
from tests.support.observe import eventually
from tests.support.troubled import Troubled


def config(first: str, second: str) -> str:
    return f"""
        [server]
        workers = 2

        [access_log]
        path = "off"

        [[listeners]]
        address = "{LISTEN}"

        [upstreams.shop]
        endpoints = ["{first}", "{second}"]
        outliers = {{ consecutive_failures = 3, eject_for = "1m" }}
        retry = {{ on = ["503"], budget = "100%" }}

        [[routes]]
        name = "products"
        path = "/products"
        upstream = "shop"

        [[routes]]
        name = "odd"
        path = "/odd"
        match.query = {{ q = "<img src=x onerror=document.title='owned'>" }}
        respond = {{ body = "odd" }}

    """


@contextmanager
def rig(directory: Path, more: str = "") -> Iterator[tuple[GatewayProcess, Admin, list[Troubled]]]:
    with Troubled() as first, Troubled() as second:
        text, admin = with_admin(config(first.address, second.address), more)
        with GatewayProcess(text, directory) as gateway:
            yield gateway, admin, [first, second]


def loaded(gateway: GatewayProcess) -> Load:
    def is_right(answer: Received) -> bool:
        return answer.status == 200

    return Load([lambda: Client(gateway.address)], 8, lambda _number: get(b"/products"), is_right)


def rate(browser: Browser) -> float:
    text = browser.text("#rate").replace(",", "")
    return float(text) if text[:1].isdecimal() else 0.0


def test_figures_move_and_an_ejected_endpoint_turns_red(tmp_path: Path) -> None:
    with rig(tmp_path) as (gateway, admin, (first, second)), Browser(tmp_path) as browser:
        browser.go(f"http://127.0.0.1:{admin.port}/")
        assert browser.shows("#about", "config.toml")
        assert browser.shows("#endpoints", first.address)
        assert rate(browser) == 0
        with loaded(gateway) as load:
            assert eventually(lambda: rate(browser) > 20, 20)
            seen = {
                browser.text("#rate") for _ in range(40) if not browser.value("new Promise(r => setTimeout(r, 100))")
            }
            assert len(seen) > 1
            assert browser.shows("#routes", "products")
            assert "ms" in browser.text("#p99")
            plain = browser.value("getComputedStyle(document.querySelector('#endpoints tbody td')).backgroundColor")
            second.be("503")
            assert browser.shows("#endpoints tbody", "ejected", 30)
            red = browser.value("getComputedStyle(document.querySelector('#endpoints tr.bad td')).backgroundColor")
            assert red != plain
            assert second.address in browser.text("#endpoints tr.bad")
        assert load.wrong == []
        # Nothing that it shows is more than text.
        assert "<img src=x" in browser.text("#table")
        assert browser.value("document.title") == "fastgw"
        assert browser.value("document.querySelectorAll('main img').length") == 0
        # Nor has its own policy, or anything else, been in its way.
        assert browser.complaints == []


def test_an_endpoint_is_drained_by_keyboard_and_events_come(tmp_path: Path) -> None:
    with rig(tmp_path) as (gateway, admin, (first, _)), Browser(tmp_path) as browser:
        browser.go(f"http://127.0.0.1:{admin.port}/")
        assert browser.shows("#endpoints tbody", "Drain")
        browser.value("document.querySelector('#endpoints button').focus()")
        label = browser.value("document.activeElement.getAttribute('aria-label')")
        assert label == f"Drain {first.address} of shop"
        # It asks first; the browser says yes here.
        browser.press("Enter", 13, "\r")
        assert browser.shows("#endpoints tr.warn", "draining")
        assert browser.shows("#events", "endpoint done")
        assert admin.get("/api/upstreams")[0]["endpoints"][0]["draining"] is True
        gateway.rewrite("nonsense")
        assert gateway.command("reload").returncode == 1
        assert browser.shows("#events", "reload refused")
        # All can be reached by Tab, and it shows where one is.
        reached = set()
        browser.value("document.body.focus()")
        for _ in range(20):
            browser.press("Tab", 9)
            reached.add(browser.value("document.activeElement.id || document.activeElement.tagName"))
        assert {"method", "url", "headers"} <= reached
        assert browser.complaints == []


def test_a_request_is_tried_in_it(tmp_path: Path) -> None:
    with rig(tmp_path) as (_, admin, _backends), Browser(tmp_path) as browser:
        browser.go(f"http://127.0.0.1:{admin.port}/")
        assert browser.shows("#table", "products")
        browser.value("document.getElementById('url').value = ''; document.getElementById('url').focus()")
        browser.write("http://localhost/product")
        browser.press("Enter", 13, "\r")
        assert browser.shows("#explained", "match route")
        # With what came near.
        assert "products: missed" in browser.text("#explained")
        assert browser.complaints == []


def test_whoever_has_no_token_is_asked_for_it(tmp_path: Path) -> None:
    with rig(tmp_path, f'token = "{TOKEN}"') as (_, admin, _backends), Browser(tmp_path) as browser:
        browser.go(f"http://127.0.0.1:{admin.port}/")
        hidden = "getComputedStyle(document.getElementById('content')).display == 'none'"
        assert eventually(lambda: browser.value(hidden) is True)
        assert browser.value("document.activeElement.id") == "token"
        for token, shown in (("wrong", "That is not the token."), (TOKEN, "")):
            browser.value("document.getElementById('token').value = ''; document.getElementById('token').focus()")
            browser.write(token)
            browser.press("Enter", 13, "\r")
            if shown:
                assert browser.shows("#login-trouble", shown)
        assert browser.shows("#endpoints tbody", "up")
        assert browser.value("document.cookie") == ""
        # The refusals are all that it complains of.
        assert all("401" in complaint for complaint in browser.complaints)


def test_it_fits_a_phone_in_the_dark(tmp_path: Path) -> None:
    with rig(tmp_path) as (_, admin, _backends), Browser(tmp_path, 320, 640, dark=True) as browser:
        browser.go(f"http://127.0.0.1:{admin.port}/")
        assert browser.shows("#endpoints tbody", "up")
        # Wide tables scroll by themselves; the page does not.
        assert browser.value("document.documentElement.scrollWidth") <= 320
        background = browser.value("getComputedStyle(document.body).backgroundColor")
        assert max(int(part) for part in background[4:-1].split(",")) < 60


def test_its_files_let_nothing_else_in(tmp_path: Path) -> None:
    with rig(tmp_path) as (_, admin, _backends):
        for path, kind in (("/", "text/html"), ("/dashboard.css", "text/css"), ("/dashboard.js", "text/javascript")):
            status, headers, body = admin.ask(path)
            assert status == 200
            assert headers["content-type"].startswith(kind)
            policy = headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert b"innerHTML" not in body
            assert b"http://" not in body.replace(b"http://localhost/", b"")
            assert b"https://" not in body


def test_failures_come_with_why_and_are_put_into_the_box_that_explains(tmp_path: Path) -> None:
    with rig(tmp_path) as (gateway, admin, (first, second)), Browser(tmp_path) as browser:
        browser.go(f"http://127.0.0.1:{admin.port}/")
        assert browser.shows("#more-failures", "None so far.")
        for backend in (first, second):
            backend.be("503")
        with Client(gateway.address) as client:
            assert client.ask(get(b"/nowhere?x=<b>&token=secret")).status == 404
        assert browser.shows("#failures tbody", "No route matches the request. (no-route)")
        with Client(gateway.address) as client:
            assert client.ask(get(b"/products?q=1", method=b"POST")).status == 503
        assert browser.shows("#failures tbody", "The backend has answered with 503")
        rows = browser.value("[...document.querySelectorAll('#failures tbody tr')].map(row => row.innerText)")
        # The newest first, and nothing that a client has sent is more than text.
        assert "POST a.test/products?q=1" in rows[0]
        assert " of shop" in rows[0]
        assert "GET a.test/nowhere?x=<b>&token=REDACTED" in rows[-1]
        assert browser.value("document.querySelectorAll('#failures b').length") == 0
        browser.value("document.querySelector('#failures button').focus()")
        assert browser.value("document.activeElement.ariaLabel") == "Explain POST a.test/products?q=1"
        browser.press("Enter", 13, "\r")
        assert browser.value("document.getElementById('method').value") == "POST"
        assert browser.value("document.activeElement.value") == "http://a.test/products?q=1"
        browser.press("Enter", 13, "\r")
        assert browser.shows("#explained", "match route: products")
        assert browser.complaints == []


def test_clients_who_try_names_hide_no_failure_of_a_backend(tmp_path: Path) -> None:
    with rig(tmp_path) as (gateway, admin, (first, second)), Browser(tmp_path) as browser:
        browser.go(f"http://127.0.0.1:{admin.port}/")
        for backend in (first, second):
            backend.be("503")
        with Client(gateway.address) as client:
            assert client.ask(get(b"/products?q=1", method=b"POST")).status == 503
        assert browser.shows("#failures tbody", "The backend has answered with 503")
        numbers = count()

        def are_many() -> bool:
            with Client(gateway.address) as client:
                for number in islice(numbers, 20):
                    client.ask(get(b"/nowhere/%d" % number))
            return len(admin.get("/api/failures")["failures"]) > 60

        assert eventually(are_many, 60.0)
        # What was told in this moment may still be on its way.
        time.sleep(1.0)
        newest = admin.get("/api/failures")["failures"][0]["path"]
        assert browser.shows("#failures tbody", f"a.test{newest} ")
        assert browser.value("document.querySelectorAll('#failures tbody tr').length") == 50
        assert "The backend has answered with 503" in browser.text("#failures tbody")


def test_the_log_is_shown_while_it_is_asked_for(tmp_path: Path) -> None:
    with rig(tmp_path) as (gateway, admin, _backends), Browser(tmp_path) as browser:
        browser.go(f"http://127.0.0.1:{admin.port}/")
        assert browser.shows("#endpoints tbody", "up")
        browser.value("document.getElementById('log-route').focus()")
        browser.write("products")
        browser.press("Enter", 13, "\r")
        assert browser.shows("#log-button", "Stop")

        def is_seen() -> bool:
            with Client(gateway.address) as client:
                assert client.ask(get(b"/products?api_key=secret")).status == 200
                assert client.ask(get(b"/odd")).status == 404
            return "/products?api_key=REDACTED" in browser.text("#log")

        assert eventually(is_seen)
        assert "/odd" not in browser.text("#log")
        browser.press("Enter", 13, "\r")
        assert browser.shows("#log-button", "Show")
        browser.value("document.getElementById('log-route').value = 'product'")
        browser.press("Enter", 13, "\r")
        assert browser.shows("#log-trouble", 'did you mean "products"?')
        # The refusal is all that it complains of.
        assert all("404" in complaint for complaint in browser.complaints)
