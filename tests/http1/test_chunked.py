from __future__ import annotations

import re

import httptools
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fastgw.http1.chunked import ChunkedDecoder, encode_chunk, encode_last_chunk
from tests.http1.heads import CUTS, mutated, pieces

LAST = b"0\r\n\r\n"


def decode(*fed: bytes) -> tuple[bytes, ChunkedDecoder]:
    """Feeds one piece after the other, as long as there is any sense in it."""
    decoder = ChunkedDecoder()
    out = b""
    for data in fed:
        if not (decoder.complete or decoder.broken):
            out += b"".join(decoder.feed(data))
    return out, decoder


def state(decoder: ChunkedDecoder) -> str:
    return "complete" if decoder.complete else "broken" if decoder.broken else "partial"


# The oracle


class Llhttp:
    """What llhttp makes of a chunked body: "complete", "broken" or "partial", the data and the trailer lines."""

    _HEAD = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"

    def __init__(self, body: bytes) -> None:
        self.state = "partial"
        self.data = b""
        self.trailers: list[tuple[bytes, bytes]] = []
        self._in_body = False
        parser = httptools.HttpRequestParser(self)
        parser.feed_data(self._HEAD)
        self._in_body = True
        try:
            parser.feed_data(body)
        except httptools.HttpParserError:
            # What follows a whole message may be anything.
            if self.state == "partial":
                self.state = "broken"

    def on_body(self, data: bytes) -> None:
        if self.state == "partial":
            self.data += data

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_body and self.state == "partial":
            self.trailers.append((name, value.rstrip(b" \t")))

    def on_message_complete(self) -> None:
        self.state = "complete"


# Where the decoder is stricter than llhttp on purpose: a size of more than 16 digits, a size line of more than 256
# bytes, a control character in an extension, trailers past the bound of a head.
_LONG_SIZE = re.compile(rb"[0-9A-Fa-f]{17}")
_LONG_LINE = re.compile(rb"[^\r\n]{257}")
_CONTROL_IN_EXTENSION = re.compile(rb";[^\r\n]*[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def is_stricter_here(body: bytes) -> bool:
    return any(pattern.search(body) for pattern in (_LONG_SIZE, _LONG_LINE, _CONTROL_IN_EXTENSION))


# Where it is laxer: an extension is dropped without being understood, the white space before it included (RFC 9112
# §7.1.1 lets a recipient ignore it); llhttp wants a name and a value.
_EXTENDED = re.compile(rb"([0-9A-Fa-f]+)[ \t]*;[\t\x20-\x7e\x80-\xff]*\r\n")
_PLAIN = re.compile(rb"([0-9A-Fa-f]+)\r\n")


def without_extensions(body: bytes) -> bytes:
    """The body with its size lines bare, up to where it is no chunked body any more."""
    out, position = b"", 0
    while found := _EXTENDED.match(body, position) or _PLAIN.match(body, position):
        size = int(found.group(1), 16)
        end = found.end() + size + 2
        out += found.group(1) + b"\r\n"
        if size == 0:
            return out + body[found.end() :]
        out += body[found.end() : end]
        position = end
    return out + body[position:]


def lines(trailers: bytes) -> list[tuple[bytes, bytes]]:
    out = []
    for line in trailers.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        out.append((name, value.strip(b" \t")))
    return out


EXTENSIONS = st.sampled_from([b""] * 8 + [b";a", b";a=b", b'; a="b;c"', b";", b" ;a", b";a=\xff", b"; \x01"])
SIZES = st.sampled_from([b"%x", b"%X", b"%x", b"00%x", b"%017x", b"+%x", b"0x%x"])
TRAILERS = st.lists(st.sampled_from([b"X-A: 1", b"x-b:2", b"Digest:  ", b"X-C: \xff ", b"Bad", b" folded"]), max_size=2)


def _chunk(size: bytes, extension: bytes, data: bytes) -> bytes:
    return size % len(data) + extension + b"\r\n" + data + b"\r\n"


CHUNKS = st.lists(st.builds(_chunk, SIZES, EXTENSIONS, st.binary(min_size=1, max_size=20)), max_size=4)
GOOD_CHUNKS = st.lists(st.builds(encode_chunk, st.binary(min_size=1, max_size=20)), max_size=4)
BODIES = st.builds(
    lambda chunks, extension, trailers, rest: b"".join(
        (*chunks, b"0", extension, b"\r\n", *(line + b"\r\n" for line in trailers), b"\r\n", rest)
    ),
    st.one_of(GOOD_CHUNKS, CHUNKS),
    EXTENSIONS,
    TRAILERS,
    st.sampled_from([b"", b"GET / HTTP/1.1\r\n", b"\r\n", b"\x00"]),
)


@settings(max_examples=120, deadline=None)
@given(st.one_of(BODIES, mutated(BODIES), st.binary(max_size=30)), CUTS)
@example(b"5\nhello\r\n0\r\n\r\n", [])
@example(b"5\r\nhello\n0\r\n\r\n", [])
@example(b"5\r\nhello\r\n0\n\n", [])
@example(b"5\r\nhello\r\n0\r\nX-A: 1\n\r\n", [])
@example(b"5\r\nhello\r\n0\r\nX-A : 1\r\n\r\n", [])
@example(b"5\r\nhello\r\n0\r\nX-A: 1\r\n b\r\n\r\n", [])
@example(b"5 \r\nhello\r\n0\r\n\r\n", [])
@example(b"5;\n\r\nhello\r\n0\r\n\r\n", [])
def test_whatever_is_sent_llhttp_agrees_but_for_what_is_refused_on_purpose(body: bytes, cuts: list[int]) -> None:
    data, decoder = decode(*pieces(body, cuts))
    oracle = Llhttp(without_extensions(body))
    if decoder.complete:
        assert oracle.state == "complete"
        assert data == oracle.data
        assert lines(decoder.trailers) == oracle.trailers
    elif decoder.broken:
        assert oracle.state != "complete" or is_stricter_here(body)
        assert oracle.data.startswith(data)
    else:
        assert oracle.state != "complete"


@settings(max_examples=60, deadline=None)
@given(st.one_of(BODIES, mutated(BODIES)), CUTS)
def test_how_a_body_is_cut_makes_no_difference(body: bytes, cuts: list[int]) -> None:
    whole, at_once = decode(body)
    cut, in_pieces = decode(*pieces(body, cuts))
    if at_once.complete:
        assert (cut, state(in_pieces), in_pieces.trailers) == (whole, "complete", at_once.trailers)
        assert at_once.rest.startswith(in_pieces.rest)
    else:
        assert (cut, state(in_pieces)) == (whole, state(at_once))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=50), max_size=5), st.binary(max_size=10), CUTS)
def test_what_is_encoded_is_decoded_and_what_follows_is_left(parts: list[bytes], rest: bytes, cuts: list[int]) -> None:
    body = b"".join(map(encode_chunk, parts)) + encode_last_chunk(b"\r\nX-A: 1")
    data, decoder = decode(*pieces(body, cuts)[:-1], pieces(body, cuts)[-1] + rest)
    assert (data, state(decoder), decoder.trailers, decoder.rest) == (b"".join(parts), "complete", b"\r\nX-A: 1", rest)


# By hand


def test_the_size_line_may_be_as_long_as_its_bound_wherever_it_is_cut() -> None:
    body = b"1" + b";" + b"x" * 254 + b"\r\na\r\n" + LAST
    for cut in range(250, 262):
        data, decoder = decode(body[:cut], body[cut:])
        assert (cut, data, state(decoder)) == (cut, b"a", "complete")


def test_a_size_line_without_end_is_refused_at_its_bound() -> None:
    assert decode(b"1;" + b"x" * 300)[1].broken
    assert decode(*[b"1;", *[b"x"] * 300])[1].broken


def test_trailers_without_end_are_refused_at_their_bound() -> None:
    line = b"x-a: " + b"b" * 1000 + b"\r\n"
    assert decode(b"0\r\n", *[line] * 20)[1].broken
    assert decode(b"0\r\nx-a: " + b"b" * 20_000)[1].broken


def test_what_is_to_come_of_a_chunk_is_known_before_it_comes() -> None:
    _, decoder = decode(b"ff\r\nabc")
    assert decoder.to_come == 252


@pytest.mark.parametrize(
    "partial", [b"g", b"\n", b"5\n", b";", b" 5", b"\r", b"5\r\nhellox", b"0\r\nx-a: 1\n", b"5\r\nhello\n"]
)
def test_what_can_not_become_a_chunk_is_never_complete(partial: bytes) -> None:
    _, decoder = decode(partial)
    assert not decoder.complete
    assert decode(partial, b"\r\n")[1].broken


def test_a_field_that_frames_or_steers_is_no_trailer_in_any_spelling() -> None:
    names = (
        b"content-length",
        b"Transfer_Encoding",
        b"HOST",
        b"x-forwarded-for",
        b"Set-Cookie",
        b"authorization",
        b"TE",
    )
    _, decoder = decode(b"0\r\nX-A: 1\r\n" + b"".join(name + b": x\r\n" for name in names) + b"x-b:2\r\n\r\n")
    assert decoder.trailers == b"\r\nX-A: 1\r\nx-b:2"


def test_nothing_is_read_past_the_end() -> None:
    data, decoder = decode(b"1\r\na\r\n" + LAST + b"5\r\nhello\r\n")
    assert (data, decoder.rest) == (b"a", b"5\r\nhello\r\n")
