from __future__ import annotations

import pytest

from fastgw.config.secrets import HIDDEN, shown, written_out
from tests.config.sources import load


@pytest.mark.parametrize(
    ("table", "hidden"),
    [
        ({"admin": {"token": "abc"}}, True),
        ({"sticky": {"secret": ["one", "two"]}}, True),
        ({"match": {"headers": {"X-API-Key": "abc"}}}, True),
        ({"headers": {"set": {"authorization": "abc"}}}, True),
        ({"headers": {"add": {"Set-Cookie": ["a=1"]}}}, True),
        ({"match": {"query": {"access-token": "abc"}}}, True),
        ({"match": {"cookies": {"sessionid": "abc"}}}, True),
        ({"match": {"headers": {"X-Version": "2"}, "query": {"page": "1"}, "cookies": {"beta": "1"}}}, False),
        ({"authorization": "no header"}, False),
        ({"admin": {"token": "${TOKEN}"}}, False),
        ({"admin": {"token": True}}, False),
    ],
)
def test_what_is_nobody_s_business_is_known_by_its_name(table: dict[str, object], hidden: bool) -> None:
    assert (HIDDEN in str(shown(table))) is hidden
    assert (shown(table) == table) is not hidden
    assert bool(list(written_out(table))) is hidden


def test_half_a_reference_is_a_secret_and_a_regular_expression_is_without_its_mark() -> None:
    raw = {"headers": {"Authorization": ["Bearer ${TOKEN}", "~^Bearer x$"]}}
    assert list(written_out(raw)) == ["Bearer ${TOKEN}", "^Bearer x$"]


def test_what_is_short_may_be_a_word_like_others_and_stays() -> None:
    text = 'match.headers = {{ Authorization = "{}" }}\nrespond.body = "ok"\n'
    for secret, masked in (("internal", HIDDEN), ("inside", "inside")):
        document = load("[[routes]]\n" + text.format(secret)).document
        assert document.mask(f"must be {secret}") == f"must be {masked}"
