"""What an authority wants to see, in a snapshot. What the helper process and its keeper do is seen from outside."""

from __future__ import annotations

import pickle
from dataclasses import replace

import pytest

from fastgw.runtime.acme import with_challenges
from fastgw.runtime.acme_messages import Challenge
from fastgw.runtime.explain import explain
from fastgw.snapshot import KeyPair, Snapshot
from tests.fakes import snapshot_of
from tests.net.rig import Rig, messages

TOKEN = "/.well-known/acme-challenge/abc_-123"
ASKED = f"http://a.test{TOKEN}"
OWN = Challenge("a.test", TOKEN, "abc_-123.thumb")


def snapshot(host: str) -> Snapshot:
    routes = f'host = "{host}"\n' if host else ""
    return snapshot_of(
        f'[[routes]]\n{routes}path = "/.well-known/acme-challenge/{{token}}"\nrespond.status = 204\n'
        f'[[routes]]\n{routes}redirect.to = "/elsewhere"\n'
    )


@pytest.mark.parametrize("host", ["a.test", "*.test", ""])
def test_the_answer_to_an_authority_comes_before_all_routes(host: str) -> None:
    made = with_challenges(snapshot(host), [OWN])
    found = explain(made, "GET", ASKED, [])
    assert (found.route, found.status) == ("acme-challenge", 200)
    for method, url in (("GET", f"{ASKED}x"), ("POST", ASKED)):
        assert explain(made, method, url, []).status == 204
    assert explain(made, "GET", f"http://b.test{TOKEN}", []).route != "acme-challenge"
    assert explain(made, "GET", "http://a.test/", []).status == 308


def test_without_a_question_nothing_changes() -> None:
    made = snapshot("a.test")
    assert with_challenges(made, []) is made


def test_what_tls_shows_is_by_name_and_leaves_the_routes() -> None:
    pair = KeyPair(b"cert", b"key")
    before = snapshot("a.test")
    made = with_challenges(before, [Challenge("a.test", pair=pair)])
    assert made.tls_challenges == {b"a.test": pair}
    assert (made.routes, made.router) == (before.routes, before.router)


def test_it_travels_to_the_workers() -> None:
    made = pickle.loads(pickle.dumps(with_challenges(snapshot("a.test"), [OWN])))
    assert explain(made, "GET", ASKED, []).route == "acme-challenge"


def redirecting() -> Rig:
    made = Rig(
        """
        [[listeners]]
        address = "127.0.0.1:0"
        redirect_to_https = true
        [upstreams.a]
        endpoints = ["b:1"]
        [[routes]]
        upstream = "a"
        """
    )
    made.gateway.snapshot = with_challenges(made.gateway.snapshot, [OWN])
    made.gateway.bind_routes()
    return made


@pytest.mark.parametrize(
    ("path", "host", "status"),
    [
        (TOKEN, "a.test", b"200"),
        (TOKEN, "b.test", b"308"),
        (f"{TOKEN}x", "a.test", b"308"),
        ("/", "a.test", b"308"),
    ],
)
def test_it_is_given_where_all_others_are_sent_to_https(path: str, host: str, status: bytes) -> None:
    made = redirecting()
    wire = made.client()
    wire.receive(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    (answer,) = messages(wire.sent)
    assert answer.start[9:12] == status
    if status == b"200":
        assert answer.body == b"abc_-123.thumb"
        assert b"Content-Type: application/octet-stream" in answer.lines


def test_a_route_of_the_users_that_is_called_alike_is_sent_to_https() -> None:
    made = redirecting()
    routes = tuple(replace(route, answers_authority=False) for route in made.gateway.snapshot.routes)
    made.gateway.snapshot = replace(made.gateway.snapshot, routes=routes)
    wire = made.client()
    wire.receive(f"GET {TOKEN} HTTP/1.1\r\nHost: a.test\r\n\r\n".encode())
    assert messages(wire.sent)[0].start[9:12] == b"308"
