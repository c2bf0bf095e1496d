from __future__ import annotations

import json

import pytest

from fastgw import errors
from fastgw.errors import Failure
from fastgw.http1.encode import canned, request_head, status_line
from fastgw.http1.fields import values
from fastgw.http1.message import CHUNKED, LENGTH, RequestHead, ResponseHead
from fastgw.http1.parse import RequestParser
from fastgw.http1.parse_response import parse_response

FAILURES = [value for value in vars(errors).values() if isinstance(value, Failure)]


def request(**said: object) -> RequestHead:
    made = RequestHead(b"", b"POST", 1)
    for name, value in said.items():
        setattr(made, name, value)
    return made


def test_a_status_has_its_phrase_and_an_unknown_one_none() -> None:
    assert status_line(404) == b"HTTP/1.1 404 Not Found"
    assert status_line(599) == b"HTTP/1.1 599 "


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: failure.reason)
def test_every_failure_s_answer_is_well_formed_and_says_why(failure: Failure) -> None:
    line, more, body = canned(failure)
    lines = line + more + b"\r\nContent-Length: %d" % len(body)
    head = parse_response(lines, False)
    assert isinstance(head, ResponseHead)
    assert (head.status, head.content_length) == (failure.status, len(body))
    problem = json.loads(body)
    assert (problem["status"], problem["reason"], problem["detail"]) == (failure.status, failure.reason, failure.detail)
    assert problem["title"]
    assert values(lines, b"content-type") == [b"application/problem+json"]
    status_of_proxy = [b"fastgw; error=" + failure.proxy_error.encode()] if failure.proxy_error else []
    assert values(lines, b"proxy-status") == status_of_proxy
    assert values(lines, b"retry-after") == ([b"1"] if failure.retry_after_s else [])


def test_a_failure_s_answer_is_made_once() -> None:
    assert canned(errors.NO_ROUTE) is canned(errors.NO_ROUTE)


def test_reasons_are_told_apart() -> None:
    assert len({failure.reason for failure in FAILURES}) == len(FAILURES)


@pytest.mark.parametrize(
    ("said", "framing"),
    [
        ({}, b""),
        ({"body": LENGTH, "content_length": 0}, b"\r\nContent-Length: 0"),
        (
            {"body": LENGTH, "content_length": 5, "expects_continue": True},
            b"\r\nExpect: 100-continue\r\nContent-Length: 5",
        ),
        ({"body": CHUNKED}, b"\r\nTransfer-Encoding: chunked"),
        ({"upgrade": b"websocket"}, b"\r\nConnection: upgrade\r\nUpgrade: websocket"),
    ],
)
def test_a_request_s_framing_is_made_anew(said: dict[str, object], framing: bytes) -> None:
    made = request_head(request(**said), b"/a?b", b"a.test", b"\r\nX-A: 1")
    assert made == b"POST /a?b HTTP/1.1\r\nHost: a.test\r\nX-A: 1" + framing + b"\r\n\r\n"
    assert not isinstance(RequestParser().parse(made[:-4], 100, 100), Failure)
