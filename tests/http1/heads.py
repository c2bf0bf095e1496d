"""Heads as they are met and as they are not, for the randomized tests."""

from __future__ import annotations

from hypothesis import strategies as st

from fastgw.http1.fields import REQUESTS as REQUEST_TABLE
from fastgw.http1.fields import RESPONSE_SPELLINGS

# Bytes that parsers disagree about, beside the ordinary ones.
_SHARP = b"\r\n\t \x00\x0b\x0c\x7f\x80\xff:;,_-/\\#?%\"'()aZ09"

METHODS = st.sampled_from([b"GET", b"POST", b"HEAD", b"OPTIONS", b"PUT", b"CONNECT", b"get", b"BREW", b"M-SEARCH", b""])
TARGETS = st.sampled_from(
    [
        b"/",
        b"/a/../b?x=%41",
        b"*",
        b"http://b.test/c",
        b"http://b.test",
        b"https://[::1]:1/",
        b"a:1",
        b"/\xff",
        b"/#",
        b"",
    ]
)
VERSIONS = st.sampled_from(
    [b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/0.9", b"HTTP/2.0", b"HTTP/1.10", b""]
)


def _recased(name: bytes, choices: list[bool]) -> bytes:
    """The name with some letters in the other case; a `-` becomes `_`."""
    out = bytearray()
    for byte, flip in zip(name, choices * len(name), strict=False):
        character = bytes([byte])
        out += (b"_" if character == b"-" else character.swapcase()) if flip else character
    return bytes(out)


def _names(known: dict[bytes, int]) -> st.SearchStrategy[bytes]:
    special = st.sampled_from(sorted(known))
    spelled = st.builds(_recased, special, st.lists(st.booleans(), min_size=1, max_size=5))
    return st.one_of(special, spelled, st.sampled_from([b"Accept", b"X-A", b"x_a", b"Cookie", b"A", b"Via", b"TEA"]))


_WORDS = b"0 5 close keep-alive upgrade h2c chunked 100-continue websocket a.test a.test:80 1.2.3.4 trailers Close"
_LISTS = [b"", b"5, 5", b"x-a, close", b"Upgrade, HTTP2-Settings", b"gzip, chunked", b"\t close \t,", b"host, x-a"]
VALUES = st.one_of(
    st.sampled_from([*_WORDS.split(), *_LISTS, b"for=1.2.3.4"]),
    st.binary(max_size=8).map(lambda value: bytes(byte for byte in value if byte > 31 and byte != 127)),
)
SEPARATORS = st.sampled_from([b": "] * 6 + [b":", b":\t ", b" : ", b""])


def lines(known: dict[bytes, int]) -> st.SearchStrategy[list[bytes]]:
    return st.lists(st.builds(lambda *parts: b"".join(parts), _names(known), SEPARATORS, VALUES), max_size=6)


def _request(method: bytes, target: bytes, version: bytes, hosts: list[bytes], more: list[bytes]) -> bytes:
    return b"\r\n".join([b" ".join((method, target, version)), *hosts, *more])


def _response(version: bytes, status: bytes, phrase: bytes, more: list[bytes]) -> bytes:
    return b"\r\n".join([version + b" " + status + phrase, *more])


_HOSTS = st.sampled_from([[b"Host: a.test"]] * 6 + [[], [b"Host: a.test", b"Host: b.test"], [b"Host: a b"]])
REQUESTS = st.builds(_request, METHODS, TARGETS, VERSIONS, _HOSTS, lines(REQUEST_TABLE.spellings))
# Most are accepted.
GOOD_REQUESTS = st.builds(
    _request,
    st.sampled_from([b"GET", b"POST"]),
    st.just(b"/"),
    st.sampled_from([b"HTTP/1.1", b"HTTP/1.0"]),
    st.just([b"Host: a.test"]),
    lines({name: kind for name, kind in REQUEST_TABLE.spellings.items() if name.lower() not in (b"host", b"expect")}),
)
RESPONSES = st.builds(
    _response,
    VERSIONS,
    st.sampled_from([b"200", b"204", b"304", b"100", b"101", b"103", b"500", b"099", b"999", b"20", b"2000"]),
    st.sampled_from([b" OK", b"", b" ", b" \xc3\xa9", b" a\tb", b"  "]),
    lines(RESPONSE_SPELLINGS),
)


def _mutate(data: bytes, changes: list[tuple[int, int, bytes]]) -> bytes:
    """Each change is a place (modulo the size), how many bytes go, and what comes."""
    for place, gone, come in changes:
        at = place % (len(data) + 1)
        data = data[:at] + come + data[at + gone :]
    return data


def mutated(strategy: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    sharp = st.lists(st.sampled_from(sorted(_SHARP)), max_size=2).map(bytes)
    changes = st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 2), sharp), max_size=3)
    return st.builds(_mutate, strategy, changes)


def one_head(data: bytes) -> bytes:
    """What comes before the first empty line, as those who call the parsers cut it."""
    return data.partition(b"\r\n\r\n")[0]


ANY_REQUEST = st.one_of(REQUESTS, mutated(REQUESTS), mutated(GOOD_REQUESTS), st.binary(max_size=60)).map(one_head)
ANY_RESPONSE = st.one_of(RESPONSES, mutated(RESPONSES), st.binary(max_size=60)).map(one_head)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    """The data cut at these places (modulo its size); no piece is empty."""
    places = sorted({cut % len(data) for cut in cuts} - {0}) if data else []
    return [data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True) if end > start]


CUTS = st.lists(st.integers(0, 4000), max_size=8)
