from __future__ import annotations

import pytest

from fastgw.http1.message import RequestHead
from fastgw.policy.arms import Arms, ArmSettings
from fastgw.policy.sticky_cookie import StickySettings

STICKY = StickySettings(b"s", (b"0123456789abcdef",), b"")
NAMES = ("stable", "canary")


def arms(weights: tuple[int, ...] = (95, 5)) -> Arms:
    return Arms(ArmSettings(STICKY, b"x-arm", b"arm"), NAMES, weights, "split r")


def request(*lines: bytes) -> RequestHead:
    return RequestHead(b"GET / HTTP/1.1\r\n" + b"\r\n".join(lines), b"GET", 1)


def token(made: Arms, place: int) -> bytes:
    assert made.sticky is not None
    return made.sticky.line(place, None).partition(b"=")[2]


@pytest.mark.parametrize(
    ("lines", "arm"),
    [
        ((b"X-Arm: canary",), 1),
        ((b"Cookie: a=b; arm=canary",), 1),
        ((b"X-Arm: stable", b"Cookie: arm=canary"), 0),
        ((b"X-Arm: nobody", b"Cookie: arm=canary"), 1),
        ((b"X-Arm: nobody",), -1),
        ((b"X-Arm:",), -1),
        ((b"A: b",), -1),
    ],
)
def test_a_request_names_its_arm_by_its_upstream(lines: tuple[bytes, ...], arm: int) -> None:
    assert arms().named(request(*lines)) == arm


def test_an_arm_without_weight_can_be_named() -> None:
    assert arms((100, 0)).named(request(b"X-Arm: canary")) == 1


def test_where_nothing_is_configured_nothing_is_looked_at() -> None:
    plain = Arms(ArmSettings(), NAMES, (1, 1), "split r")
    assert plain.named(request(b"X-Arm: canary", b"Cookie: arm=canary")) == -1
    assert plain.kept(b"x") == -1


def test_a_client_keeps_his_arm_until_it_has_no_weight() -> None:
    made = arms()
    assert [made.kept(token(made, place)) for place in (0, 1)] == [0, 1]
    assert made.kept(b"forged") == made.kept(None) == -1
    assert arms((100, 0)).kept(token(made, 1)) == -1
    # And when it has some again.
    assert arms((1, 99)).kept(token(made, 1)) == 1


def test_a_token_is_of_one_split() -> None:
    other = Arms(ArmSettings(STICKY), NAMES, (1, 1), "split other")
    assert other.kept(token(arms(), 1)) == -1
