"""Bodies of the admin API, without a server."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fastgw.config.values import WEIGHT_MAX
from fastgw.runtime.admin_bodies import (
    Refused,
    answer,
    json_bytes,
    override_asked,
    problem,
    request_asked,
    text_asked,
)


def refusal(ask: Any, body: bytes) -> tuple[int, str]:
    with pytest.raises(Refused) as caught:
        ask(body)
    told = json.loads(bytes(caught.value.response.body))
    assert told["status"] == caught.value.response.status_code
    return told["status"], told["detail"].partition(";")[0]


@pytest.mark.parametrize(
    ("body", "asked"),
    [
        (b'{"endpoint": "a:1", "draining": true}', ("", "a:1", True, None)),
        (b'{"endpoint": "a:1", "draining": false, "weight": null}', ("", "a:1", False, None)),
        (b'{"endpoint": "a:1", "upstream": "b", "weight": 0}', ("b", "a:1", None, 0)),
        (b'{"endpoint": "a:1", "weight": 1e3}', ("", "a:1", None, WEIGHT_MAX)),
        (b'{"endpoint": "a:1", "endpoint": "b:1", "weight": 1}', ("", "b:1", None, 1)),
        ('{"endpoint": "ä", "weight": 1}'.encode(), ("", "ä", None, 1)),
    ],
)
def test_what_is_to_change_about_an_endpoint(body: bytes, asked: tuple[str, str, bool | None, int | None]) -> None:
    assert override_asked(body) == asked


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b'{"draining": true}', '"endpoint" is missing'),
        (b'{"endpoint": "a:1"}', "nothing is to change"),
        (b'{"endpoint": "a:1", "draining": null, "weight": null}', "nothing is to change"),
        (b'{"endpoint": null, "draining": true}', '"endpoint" is no name'),
        (b'{"endpoint": "a\\u0000", "draining": true}', '"endpoint" is no name'),
        (b'{"endpoint": "a:1", "upstream": 1, "draining": true}', '"upstream" is no name'),
        (b'{"endpoint": "a:1", "draining": 1}', '"draining" is true or false'),
        (b'{"endpoint": "a:1", "weight": 1.5}', '"weight" is a whole number from 0 to 1000'),
        (b'{"endpoint": "a:1", "weight": -1}', '"weight" is a whole number from 0 to 1000'),
        (b'{"endpoint": "a:1", "weight": 1001}', '"weight" is a whole number from 0 to 1000'),
        (b'{"endpoint": "a:1", "weight": 1e300}', '"weight" is a whole number from 0 to 1000'),
        (b'{"endpoint": "a:1", "weight": true}', '"weight" is a whole number from 0 to 1000'),
        (b'{"endpoint": "a:1", "weight": 1, "b": 1, "a": 1}', '"a" is unknown'),
    ],
)
def test_what_can_t_change_about_an_endpoint(body: bytes, why: str) -> None:
    assert refusal(override_asked, body) == (422, why)


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b'{"endpoint": NaN}', b"[" * 5000, b'"\\ud800"', b"\0"])
def test_what_is_no_json(body: bytes) -> None:
    for ask in (override_asked, request_asked):
        status, why = refusal(ask, body)
        assert status == 400
        assert why.startswith("Not valid JSON: ")


def test_a_request_may_have_no_headers_and_the_same_one_twice() -> None:
    assert request_asked(b'{"method": "GET", "url": "/"}') == ("GET", "/", [])
    asked = request_asked(b'{"method": "", "url": "", "headers": [["A", "1"], ["A", "2"]]}')
    assert asked == ("", "", [("A", "1"), ("A", "2")])


@pytest.mark.parametrize("headers", ["null", "{}", '"ab"', '["ab"]', '[["a"]]', '[["a", "b", "c"]]', '[["a", null]]'])
def test_headers_are_names_with_values(headers: str) -> None:
    body = f'{{"method": "GET", "url": "/", "headers": {headers}}}'.encode()
    assert refusal(request_asked, body) == (422, '"headers" is a list of names with values')


def test_a_configuration_is_read_as_from_its_file() -> None:
    assert text_asked("\ufeffä".encode()) == "ä"
    assert refusal(text_asked, b"\xff") == (400, "The configuration is not UTF-8.")


def test_whatever_is_told_is_json() -> None:
    assert json_bytes({"a": [1, None, "ä"]}) == '{"a":[1,null,"ä"]}'.encode()
    assert json.loads(json_bytes({"a": (1 << 64, "\udcff")})) == {"a": [1 << 64, "?"]}
    assert bytes(answer({}).body) == b"{}\n"
    told = problem(405, "Method Not Allowed", "No.", {"Allow": "GET"})
    assert (told.headers["allow"], told.headers["cache-control"]) == ("GET", "no-store")
