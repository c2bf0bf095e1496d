from __future__ import annotations

import re
from urllib.parse import parse_qsl, quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastgw.policy.redaction import HEADER_NAMES, QUERY_NAMES, Redaction, RedactionSettings, plain_name

ALL = Redaction(RedactionSettings())


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (b"?token=s", b"?token=REDACTED"),
        (b"?a=1&token=s&b=2", b"?a=1&token=REDACTED&b=2"),
        (b"?a=1&token=s#f", b"?a=1&token=REDACTED#f"),
        (b"?token=", b"?token=REDACTED"),
        (b"?TOKEN=s&Api-Key=s&api_key=s", b"?TOKEN=REDACTED&Api-Key=REDACTED&api_key=REDACTED"),
        # However it is encoded, a backend reads the same.
        (b"?%74oken=s", b"?%74oken=REDACTED"),
        (b"?%54%4F%4b%65n=s&b=2", b"?%54%4F%4b%65n=REDACTED&b=2"),
        (b"?+token=s&%20token=s", b"?+token=REDACTED&%20token=REDACTED"),
        # Rails and PHP.
        (b"?user[password]=s", b"?user[password]=REDACTED"),
        (b"?user%5Bpassword%5D=s&token[]=s", b"?user%5Bpassword%5D=REDACTED&token[]=REDACTED"),
        (b"?user[password][]=s&a[0][token]=s&b=2", b"?user[password][]=REDACTED&a[0][token]=REDACTED&b=2"),
        # Spring and ASP.NET.
        (b"?user.password=s&a.b=1", b"?user.password=REDACTED&a.b=1"),
        # Older backends, and answers of the implicit grant.
        (b"?a=1;token=s;b=2&c=3", b"?a=1;token=REDACTED&c=3"),
        (b"/cb#access_token=s&token_type=bearer", b"/cb#access_token=REDACTED&token_type=bearer"),
        (b"https://a.test/x?token=s=&t", b"https://a.test/x?token=REDACTED&t"),
        (b"?a?token=s", b"?a?token=REDACTED"),
        (b"?token=a?token=b&c", b"?token=REDACTED&c"),
        # A URL in a value.
        (b"?to=%2Fcb%3Fa%3D1%26token%3Ds%26b%3D2&c=3", b"?to=%2Fcb%3Fa%3D1%26token%3DREDACTED%26b%3D2&c=3"),
        (b"?to=/cb%3fx%5btoken%5d%3ds%23f", b"?to=/cb%3fx%5btoken%5d%3dREDACTED%23f"),
        (b"?to=%2Fcb%3F%2574oken%3Ds", b"?to=%2Fcb%3F%2574oken%3DREDACTED"),
        # Users and passwords.
        (b"https://me:s@a.test/x?b@c", b"https://REDACTED@a.test/x?b@c"),
        (b"https://me:p@s&s@a.test?token=s", b"https://REDACTED@a.test?token=REDACTED"),
        (b"?to=https%3A%2F%2Fme%3As%40a.test%2Fx%40y", b"?to=https%3A%2F%2FREDACTED%40a.test%2Fx%40y"),
    ],
)
def test_the_value_of_a_credential_is_hidden(url: bytes, expected: bytes) -> None:
    assert ALL.url(url) == expected


@pytest.mark.parametrize(
    "url",
    [
        *(b"", b"?", b"?=", b"?a", b"?token", b"/token=1", b"?tokens=1&my_token=2&a=token=3", b"?a=%74oken"),
        *(b"?page=2&sort=name&q=a+b%20c", b"?a[b]=1&c%5B%5D=2", b"?%=1&%7=2&%zz=3", b"text/html; charset=utf-8"),
        *(b"?mail=a@b.test&c=//d.test/e", b"?to=%2Fa%3Fb%3D1%26c%3D2", b"?a%3Db=1", b"//a.test/@b", b"?a=b%40c.test"),
    ],
)
def test_what_is_no_credential_is_left_as_it_is(url: bytes) -> None:
    assert ALL.url(url) == url


def test_more_names_may_be_hidden_and_others_shown() -> None:
    redaction = Redaction(RedactionSettings(frozenset({plain_name(b"My-Code"), b"a.b"}), frozenset({b"x-mine"})))
    assert redaction.url(b"?my_code=s&a.b=s&axb=1&token=s") == b"?my_code=REDACTED&a.b=REDACTED&axb=1&token=s"
    assert redaction.hides_parameter(b"MY-CODE")
    assert not redaction.hides_parameter(b"token")
    assert (redaction.hides_header(b"x-mine"), redaction.hides_header(b"cookie")) == (True, False)


def test_nothing_is_hidden_where_no_name_is() -> None:
    assert Redaction(RedactionSettings(frozenset(), frozenset())).url(b"?token=s") == b"?token=s"


def test_the_names_are_written_as_they_are_compared() -> None:
    assert [name for name in QUERY_NAMES if plain_name(name.encode()) != name.encode()] == []
    assert [name for name in HEADER_NAMES if name != name.lower()] == []
    for name in QUERY_NAMES:
        assert ALL.url(f"?{name}=s".encode()) == f"?{name}=REDACTED".encode()
    assert {b"authorization", b"cookie", b"set-cookie", b"proxy-authorization"} <= {n.encode() for n in HEADER_NAMES}


NAMES = st.one_of(st.sampled_from(["token", "Password", "id", "q", "a b", "\u00e9", "x[y]", "x[secret]"]), st.text())
PAIRS = st.lists(st.tuples(NAMES, st.text(max_size=5), st.booleans()), max_size=5)


@given(PAIRS)
def test_what_a_parser_reads_is_hidden_exactly_where_a_name_says_so(pairs: list[tuple[str, str, bool]]) -> None:
    def spelled(text: str, fully: bool) -> str:
        return "".join(f"%{byte:02x}" for byte in text.encode()) if fully else quote(text, safe="[]")

    pairs = [(name, value, fully) for name, value, fully in pairs if name.strip()]
    query = "?" + "&".join(f"{spelled(name, fully)}={quote(value)}" for name, value, fully in pairs)
    shown = parse_qsl(ALL.url(query.encode()).decode()[1:], keep_blank_values=True)
    assert [name for name, _ in shown] == [name for name, _, _ in pairs]
    for (name, value), (_, written, _) in zip(shown, pairs, strict=True):
        parts = {plain_name(name.encode()), *re.split(rb"[\[\].]+", plain_name(name.encode()))}
        assert value == ("REDACTED" if parts & RedactionSettings().query else written), name
