from __future__ import annotations

import pytest

from fastgw.net.proxy_header import header

CLIENT, LISTENER = ("192.0.2.7", 4711), ("198.51.100.1", 443)
CLIENT_6, LISTENER_6 = ("2001:db8::7", 4711), ("2001:db8::1", 443)
SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"


@pytest.mark.parametrize(
    ("source", "destination", "line"),
    [
        (CLIENT, LISTENER, b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n"),
        (CLIENT_6, LISTENER_6, b"PROXY TCP6 2001:db8::7 2001:db8::1 4711 443\r\n"),
        (("fe80::7%eth0", 1), LISTENER_6, b"PROXY TCP6 fe80::7 2001:db8::1 1 443\r\n"),
        (CLIENT_6, LISTENER, b"PROXY TCP6 2001:db8::7 ::ffff:c633:6401 4711 443\r\n"),
        (CLIENT, ("", 0), b"PROXY TCP4 192.0.2.7 0.0.0.0 4711 0\r\n"),
        (("unknown", 0), LISTENER, b"PROXY UNKNOWN\r\n"),
    ],
)
def test_version_1_is_a_line(source: tuple[str, int], destination: tuple[str, int], line: bytes) -> None:
    assert header("v1", source, destination) == line


def test_version_2_is_binary() -> None:
    block = bytes([192, 0, 2, 7, 198, 51, 100, 1]) + b"\x12\x67\x01\xbb"
    assert header("v2", CLIENT, LISTENER) == SIGNATURE + b"\x21\x11\x00\x0c" + block
    assert header("v2", CLIENT_6, LISTENER_6)[12:16] == b"\x21\x21\x00\x24"
    assert header("v2", ("", 0), ("", 0)) == SIGNATURE + b"\x21\x00\x00\x00"
