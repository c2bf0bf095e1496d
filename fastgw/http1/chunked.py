"""The chunked transfer coding (RFC 9112 §7.1), both ways.

The decoder is our own since httptools does not say where a message ends in what it was fed, and the bytes after it
belong to the next. It is stricter than the grammar where parsers differ: a size has 16 digits at most, lines end in
CRLF, extensions are bounded, checked and dropped.
"""

from __future__ import annotations

import re

from fastgw.http1.fields import TRAILER_SPECIAL
from fastgw.http1.message import Data

# A size, and what extensions an honest sender may add.
_SIZE_LINE_MAX = 256
# As much as a whole head may take by default.
_TRAILERS_MAX = 16 * 1024
_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?")
_FIELD_LINE = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t\x20-\x7e\x80-\xff]*")

_SIZE = 0
_DATA = 1
_DATA_END = 2
_TRAILERS = 3
_COMPLETE = 4
_BROKEN = 5


class ChunkedDecoder:
    """Takes the coding off a body that comes in pieces.

    `feed` returns the data in what it was given; then `complete`, `broken` and, once complete, `rest` (the bytes
    after the message) and `trailers` (the end-to-end trailer lines, each begun by CRLF) tell the state.
    """

    __slots__ = ("_line", "_remaining", "_state", "_trailers_size", "rest", "trailers")

    def __init__(self) -> None:
        self._state = _SIZE
        self._remaining = 0
        self._line = b""
        self._trailers_size = 0
        self.trailers = b""
        self.rest = b""

    @property
    def complete(self) -> bool:
        return self._state == _COMPLETE

    @property
    def broken(self) -> bool:
        return self._state == _BROKEN

    @property
    def to_come(self) -> int:
        """How much of the chunk it is in has not come yet."""
        return self._remaining

    def feed(self, data: bytes) -> list[bytes]:
        """The pieces of body in `data`, in order; none of them is empty."""
        out: list[bytes] = []
        position = 0
        if self._line:
            data = self._line + data
            self._line = b""
        size = len(data)
        while position < size and self._state < _COMPLETE:
            if self._state == _DATA:
                end = min(position + self._remaining, size)
                out.append(data[position:end])
                self._remaining -= end - position
                position = end
                if self._remaining == 0:
                    self._state = _DATA_END
                continue
            end = data.find(b"\r\n", position)
            if end < 0:
                self._keep_partial_line(data[position:])
                return out
            self._take_line(data[position:end])
            position = end + 2
        if self._state == _COMPLETE:
            self.rest = data[position:]
            self._finish_trailers()
        return out

    def _keep_partial_line(self, partial: bytes) -> None:
        self._line = partial
        # What can't become a line any more is refused at once, and what never ends is bounded.
        if self._state == _DATA_END:
            valid = partial == b"\r"
        elif self._state == _SIZE:
            # A CR may be the first of the line's end.
            valid = len(partial) <= _SIZE_LINE_MAX + 1 and b"\n" not in partial and partial[:1] not in b" \t;\r"
            valid = valid or partial == b""
        else:
            valid = len(partial) + self._trailers_size <= _TRAILERS_MAX and b"\n" not in partial
        if not valid:
            self._state = _BROKEN

    def _take_line(self, line: bytes) -> None:
        if self._state == _DATA_END:
            self._state = _SIZE if line == b"" else _BROKEN
        elif self._state == _SIZE:
            found = _SIZE_LINE.fullmatch(line) if len(line) <= _SIZE_LINE_MAX else None
            if found is None:
                self._state = _BROKEN
                return
            self._remaining = int(found.group(1), 16)
            self._state = _DATA if self._remaining else _TRAILERS
        elif line == b"":
            self._state = _COMPLETE
        else:
            self._trailers_size += len(line) + 2
            if self._trailers_size > _TRAILERS_MAX or _FIELD_LINE.fullmatch(line) is None:
                self._state = _BROKEN
                return
            self.trailers += b"\r\n" + line

    def _finish_trailers(self) -> None:
        if self.trailers:
            self.trailers = b"".join(TRAILER_SPECIAL.split(self.trailers)[::3])


def encode_chunk(data: Data) -> bytes:
    """One chunk; `data` is not empty (an empty chunk would end the body)."""
    return b"".join((b"%x\r\n" % len(data), data, b"\r\n"))


def encode_last_chunk(trailers: bytes) -> bytes:
    """The end of a chunked body; `trailers` are lines, each begun by CRLF."""
    return b"0%b\r\n\r\n" % trailers
