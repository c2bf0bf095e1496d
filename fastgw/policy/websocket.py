"""Where a WebSocket's frames begin (RFC 6455 §5.2), so that a last one of our own can stand behind them.

A tunnel's bytes are nobody's business; but when the gateway has to end one, both ends are told so in their own
language, where they would otherwise see a connection that broke.
"""

from __future__ import annotations

# RFC 6455 §7.4.1: an endpoint is going away, such as a server that goes down.
GOING_AWAY = 1001

_CLOSE = 0x8
_FINAL = 0x80
_MASKED = 0x80
_HEADER_MAX = 14
# In one piece of data; whoever sends more is not worth the time, and hears no goodbye. About 0.2 ms.
_FRAMES_MAX = 256


class FrameTracker:
    """One direction of a tunnel. It is told all that passes, and knows whether a frame may stand behind that."""

    __slots__ = ("_header", "_is_over", "_payload_left")

    def __init__(self) -> None:
        # Of a frame whose header is not whole yet.
        self._header = b""
        self._payload_left = 0
        # Somebody has said goodbye, or there is too much to follow.
        self._is_over = False

    @property
    def may_end(self) -> bool:
        """Whether what passed ends with a whole frame, which was no goodbye."""
        return not self._header and not self._payload_left and not self._is_over

    def feed(self, data: bytes) -> None:
        at, end, frames = 0, len(data), 0
        while at < end and not self._is_over:
            if self._payload_left:
                step = min(self._payload_left, end - at)
                self._payload_left -= step
                at += step
                continue
            header = self._header + bytes(data[at : at + _HEADER_MAX - len(self._header)])
            size, payload = _read_header(header)
            if not size:
                self._header = header
                return
            at += size - len(self._header)
            self._header = b""
            self._payload_left = payload
            frames += 1
            self._is_over = header[0] & 0xF == _CLOSE or frames > _FRAMES_MAX


def _read_header(header: bytes) -> tuple[int, int]:
    """The sizes of a frame's header and payload; (0, 0): it is not whole."""
    if len(header) < 2:
        return 0, 0
    length = header[1] & 0x7F
    # 126 and 127: the length is in the next 2 or 8 bytes.
    extended = {126: 2, 127: 8}.get(length, 0)
    size = 2 + extended + (4 if header[1] & _MASKED else 0)
    if len(header) < size:
        return 0, 0
    return size, int.from_bytes(header[2 : 2 + extended], "big") if extended else length


def close_frame(code: int, mask: bytes = b"") -> bytes:
    """A Close frame; what goes to a server is masked with 4 bytes, what comes from one is not (§5.1)."""
    payload = code.to_bytes(2, "big")
    if not mask:
        return bytes((_FINAL | _CLOSE, len(payload))) + payload
    masked = bytes(byte ^ mask[index] for index, byte in enumerate(payload))
    return bytes((_FINAL | _CLOSE, _MASKED | len(payload))) + mask + masked
