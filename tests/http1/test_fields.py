from __future__ import annotations

import pytest

from fastgw.http1 import fields
from fastgw.http1.fields import REQUESTS, RESPONSE_SPECIAL, TRAILER_SPECIAL, request_table, tokens, values, without

HEAD = b"GET / HTTP/1.1\r\nHost: a\r\nX-Host: b\r\nAccept: */*\r\nhost-x: c\r\ntE:  d \r\nX-Empty:\r\nTea: e"


def test_a_head_is_split_at_the_fields_of_this_hop_alone() -> None:
    assert REQUESTS.split(HEAD) == [
        *(b"GET / HTTP/1.1", b"Host", b"a"),
        *(b"\r\nX-Host: b\r\nAccept: */*\r\nhost-x: c", b"tE", b"d "),
        b"\r\nX-Empty:\r\nTea: e",
    ]


@pytest.mark.parametrize("spelling", [b"content-length", b"Content-Length", b"CONTENT-LENGTH", b"cOnTeNt_LeNgTh"])
def test_a_field_is_found_in_every_spelling(spelling: bytes) -> None:
    for split in (REQUESTS.split, RESPONSE_SPECIAL.split, TRAILER_SPECIAL.split):
        assert split(b"x\r\n%b:5" % spelling) == [b"x", spelling, b"5", b""]


def test_only_a_usual_spelling_is_known_without_a_second_look_and_one_with_underscores_never() -> None:
    assert REQUESTS.spellings[b"Content-Length"] == fields.CONTENT_LENGTH
    assert b"cOntent-length" not in REQUESTS.spellings
    assert REQUESTS.kind(b"cOntent-length") == fields.CONTENT_LENGTH
    assert REQUESTS.kind(b"Content_Length") == fields.DROP
    assert fields.response_kind(b"transfer-ENCODING") == fields.TRANSFER_ENCODING
    assert fields.response_kind(b"Transfer_Encoding") == fields.DROP


def test_fields_that_speak_of_a_trace_are_split_off_where_they_are_named() -> None:
    head = b"GET / HTTP/1.1\r\nHost: a\r\nTraceparent: x\r\nTracer: y\r\nX_B3_Sampled: 1"
    table = request_table((b"traceparent", b"x-b3-sampled"))
    assert table is request_table((b"traceparent", b"x-b3-sampled")) is not REQUESTS
    assert table.split(head)[3::3] == [b"", b"\r\nTracer: y", b""]
    assert [table.kind(name) for name in (b"TRACEparent", b"X_B3_Sampled", b"Host")] == [
        *(fields.TRACE, fields.DROP, fields.HOST),
    ]
    assert REQUESTS.split(head)[-1] == b"\r\nTraceparent: x\r\nTracer: y\r\nX_B3_Sampled: 1"


def test_a_list_s_members_are_lower_case_and_none_is_empty() -> None:
    assert tokens(b" Close ,,\tX-A\t,") == [b"close", b"x-a"]
    assert tokens(b"") == tokens(b" , ") == []


def test_all_values_of_a_field_are_found_in_order() -> None:
    head = b"x\r\nCookie: a=1 \r\nX-Cookie: no\r\ncookie:b=2\r\nCOOKIE:\t\r\n\r\n"
    assert values(head, b"cookie") == [b"a=1", b"b=2", b""]
    assert values(head, b"cook") == []
    assert values(b"x\r\na+b: 1\r\n\r\n", b"a+b") == [b"1"]


def test_named_lines_are_left_out() -> None:
    assert without(b"\r\nX-A: 1\r\nx-b: 2\r\nX-AB: 3", [b"x-a", b"x-b"]) == b"\r\nX-AB: 3"
    assert without(b"\r\nX-A: 1", [b"x-a"]) == b""
    assert without(b"", [b"x-a"]) == b""
