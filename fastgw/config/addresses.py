"""Addresses as the configuration writes them: "host:port", "[v6]:port", "unix:/path", and networks."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from fastgw.config.problems import Wrong, kind, toml_text
from fastgw.http1.target import parse_host

LISTEN_HINT = 'write it like "0.0.0.0:8080", "[::]:8080" or "unix:/run/fastgw.sock"'
ENDPOINT_HINT = 'write it like "10.0.0.1:80", "[::1]:80", "products.internal:80" or "unix:/run/app.sock"'
NETWORK_HINT = 'write it like "10.0.0.0/8", "fd00::/8", "192.0.2.7" or "unix:"'

_HOST_PORT = re.compile(r"(\[[^\]]*\]|[^:\[\]]*):([0-9]+)")


@dataclass(frozen=True, slots=True)
class HostPort:
    """A network address, or, when `unix_path` is set, a Unix socket. `text` is what was written."""

    text: str
    host: str = ""
    port: int = 0
    unix_path: str = ""


def listen_address(value: object) -> HostPort:
    """An address to listen on: an IP address and a port (0: any free one), or a Unix socket."""
    address = _address(value, LISTEN_HINT)
    if address.unix_path:
        return address
    if address.host in ("", "*", "localhost"):
        host = "127.0.0.1" if address.host == "localhost" else "0.0.0.0"
        raise Wrong("{value} names no IP address to listen on", f'write "{host}:{address.port}"', LISTEN_HINT)
    try:
        ip_address(address.host)
    except ValueError:
        raise Wrong("{value} names no IP address to listen on", LISTEN_HINT, LISTEN_HINT) from None
    return address


def endpoint_address(value: object) -> HostPort:
    """An address to connect to: a name or an IP address with its port, or a Unix socket."""
    address = _address(value, ENDPOINT_HINT)
    if address.unix_path:
        return address
    if address.port == 0:
        raise Wrong("{value} has port 0", "name the port that the backend listens on", ENDPOINT_HINT)
    if ":" not in address.host and parse_host(address.host.encode()) is None:
        raise Wrong("{value} is not an address", ENDPOINT_HINT, ENDPOINT_HINT)
    return address


def network(value: object) -> IPv4Network | IPv6Network | None:
    """A network or a single address; None stands for "unix:"."""
    if not isinstance(value, str):
        raise Wrong(f"must be a network, not {kind(value)}", NETWORK_HINT, NETWORK_HINT)
    if value == "unix:":
        return None
    try:
        return ip_network(value)
    except ValueError:
        pass
    try:
        meant = ip_network(value, strict=False)
    except ValueError:
        raise Wrong("{value} is not a network", NETWORK_HINT, NETWORK_HINT) from None
    raise Wrong("{value} has bits set beyond its prefix", f"write {toml_text(str(meant))}", NETWORK_HINT)


def server_name(value: object) -> str:
    """A name or an IP address that a certificate is for."""
    hint = 'write it like "products.internal"'
    if not isinstance(value, str):
        raise Wrong(f"must be a name, not {kind(value)}", hint, hint)
    host = value.removeprefix("[").removesuffix("]")
    if ":" in host:
        try:
            return str(IPv6Address(host))
        except ValueError:
            raise Wrong("{value} is not a name without a port", hint, hint) from None
    if not value.isascii() or parse_host(value.encode()) is None:
        raise Wrong("{value} is not a name", hint, hint)
    return value


def _address(value: object, hint: str) -> HostPort:
    if not isinstance(value, str):
        suggestion = f'write "0.0.0.0:{value}"' if _is_port(value) and hint is LISTEN_HINT else hint
        raise Wrong(f"must be an address, not {kind(value)}", suggestion, hint)
    if value.startswith("unix:"):
        return _unix(value, hint)
    if "://" in value:
        meant = value.split("://", 1)[1].split("/", 1)[0]
        raise Wrong("{value} is a URL", f"write {toml_text(meant)}" if ":" in meant else hint, hint)
    found = _HOST_PORT.fullmatch(value)
    if found is None:
        raise Wrong("{value} is not an address with a port", _address_meant(value, hint), hint)
    host, port = found.groups()
    if int(port) > 65535:
        raise Wrong("{value} has a port above 65535", hint, hint)
    if host.startswith("["):
        host = host[1:-1]
        try:
            IPv6Address(host)
        except ValueError:
            raise Wrong("{value} holds no IPv6 address between its brackets", hint, hint) from None
    elif not host and hint is ENDPOINT_HINT:
        raise Wrong("{value} names no host", f'write "127.0.0.1:{port}"', hint)
    return HostPort(value, host, int(port))


def _unix(value: str, hint: str) -> HostPort:
    path = value.removeprefix("unix:")
    if not path or "\0" in path:
        raise Wrong("{value} names no file", hint, hint)
    return HostPort(value, unix_path=path)


def _is_port(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 65535


def _address_meant(value: str, hint: str) -> str:
    try:
        address = ip_address(value)
    except ValueError:
        return f'write "0.0.0.0:{value}"' if value.isdecimal() and hint is LISTEN_HINT else hint
    host = f"[{address}]" if address.version == 6 else str(address)
    return f'write "{host}:{"8080" if hint is LISTEN_HINT else "80"}"'
