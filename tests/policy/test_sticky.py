from __future__ import annotations

import hashlib
import hmac
import re
from base64 import urlsafe_b64decode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastgw.policy.sticky import StickyTokens, sign

SECRET = b"0123456789abcdef"
OTHER_SECRET = b"fedcba9876543210"
NAMES = ("10.0.0.1:80", "10.0.0.2:80", "[2001:db8::1]:8080")
SCOPE = "endpoint of users"


def test_a_token_leads_back_to_its_endpoint() -> None:
    sticky = StickyTokens(NAMES, (SECRET,), SCOPE)
    assert [sticky.endpoint_of(token) for token in sticky.tokens] == [0, 1, 2]
    assert len(set(sticky.tokens)) == 3


def test_a_token_is_fit_for_a_cookie_and_tells_no_name() -> None:
    for name in NAMES:
        token = sign(name, SECRET, SCOPE)
        # RFC 6265 §4.1.1, cookie-octet.
        assert re.fullmatch(rb"[A-Za-z0-9_-]{22}", token)
        assert name.encode() not in urlsafe_b64decode(token + b"==")


def test_a_token_is_half_of_an_hmac_of_the_name_under_the_scopes_key() -> None:
    key = hmac.new(SECRET, SCOPE.encode(), hashlib.sha256).digest()
    assert urlsafe_b64decode(sign("a", SECRET, SCOPE) + b"==") == hmac.new(key, b"a", hashlib.sha256).digest()[:16]


def test_tokens_stay_good_when_endpoints_come_go_and_change_places() -> None:
    before = StickyTokens(NAMES, (SECRET,), SCOPE)
    after = StickyTokens(("10.0.0.9:80", NAMES[2], NAMES[0]), (SECRET,), SCOPE)
    assert [after.endpoint_of(token) for token in before.tokens] == [2, None, 1]


def test_nobody_is_sent_anywhere_by_a_token_of_another_secret_or_scope() -> None:
    sticky = StickyTokens(NAMES, (SECRET,), SCOPE)
    assert sticky.endpoint_of(sign(NAMES[0], OTHER_SECRET, SCOPE)) is None
    assert sticky.endpoint_of(sign(NAMES[0], SECRET, "endpoint of orders")) is None


def test_scope_and_name_can_not_be_mistaken_for_each_other() -> None:
    assert sign("b c", SECRET, "a") != sign("c", SECRET, "a b")
    assert sign("bc", SECRET, "a") != sign("c", SECRET, "ab")


def test_a_secret_can_be_replaced_without_moving_anybody() -> None:
    old = StickyTokens(NAMES, (SECRET,), SCOPE)
    new = StickyTokens(NAMES, (OTHER_SECRET, SECRET), SCOPE)
    assert [new.endpoint_of(token) for token in old.tokens] == [0, 1, 2]
    assert [new.endpoint_of(token) for token in new.tokens] == [0, 1, 2]
    assert new.tokens == StickyTokens(NAMES, (OTHER_SECRET,), SCOPE).tokens


@given(st.integers(0, 2), st.integers(0, 21), st.integers(0, 255))
def test_a_token_that_was_touched_is_nobodys(endpoint: int, place: int, byte: int) -> None:
    sticky = StickyTokens(NAMES, (SECRET,), SCOPE)
    token = bytearray(sticky.tokens[endpoint])
    token[place] = byte
    assert sticky.endpoint_of(bytes(token)) == (endpoint if bytes(token) == sticky.tokens[endpoint] else None)


@pytest.mark.parametrize("value", [b"", b"0", b"10.0.0.1:80", b"\xff" * 22, b"A" * 10_000])
def test_what_is_no_token_is_nobodys(value: bytes) -> None:
    assert StickyTokens(NAMES, (SECRET,), SCOPE).endpoint_of(value) is None


def test_a_quoted_or_padded_token_is_nobodys() -> None:
    sticky = StickyTokens(NAMES, (SECRET,), SCOPE)
    assert sticky.endpoint_of(b'"' + sticky.tokens[0] + b'"') is None
    assert sticky.endpoint_of(sticky.tokens[0] + b"==") is None


def test_of_two_endpoints_with_one_name_the_first_is_meant() -> None:
    sticky = StickyTokens(("a", "b", "a"), (SECRET,), SCOPE)
    assert [sticky.endpoint_of(token) for token in sticky.tokens] == [0, 1, 0]


def test_a_user_stays_in_the_arm_of_a_split() -> None:
    arms = StickyTokens(("stable", "canary"), (SECRET,), "split of /api/*")
    assert arms.endpoint_of(arms.tokens[1]) == 1
    # After the canary has become the only one.
    assert StickyTokens(("canary",), (SECRET,), "split of /api/*").endpoint_of(arms.tokens[0]) is None


def test_a_secret_that_could_be_guessed_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 16 bytes"):
        sign("a", b"secret", SCOPE)
