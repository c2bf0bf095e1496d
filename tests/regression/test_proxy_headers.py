"""Headers that tell of a client's address."""

from __future__ import annotations

from ipaddress import IPv6Address

import pytest

from fastgw.net.proxy_header import header


def test_a_mapped_address_was_written_with_dots_by_newer_pythons(monkeypatch: pytest.MonkeyPatch) -> None:
    before = IPv6Address.__str__

    def as_from_3_13_on(address: IPv6Address) -> str:
        return before(address) if address.ipv4_mapped is None else f"::ffff:{address.ipv4_mapped}"

    monkeypatch.setattr(IPv6Address, "__str__", as_from_3_13_on)
    line = header("v1", ("2001:db8::7", 4711), ("198.51.100.1", 443))
    assert line == b"PROXY TCP6 2001:db8::7 ::ffff:c633:6401 4711 443\r\n"
