"""Addresses as the configuration writes them: "host:port", "[v6]:port", "unix:/path", and networks."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from fastgw.config.problems import Wrong, kind, toml_text
from fastgw.http1.target import parse_host

LISTEN_HINT = 'write it like "0.0.0.0:8080", "[::]:8080" or "unix:/run/fastgw.sock"'
ENDPOINT_HINT = 'write it like "10.0.0.1:80", "[::1]:80", "products.internal:80" or "unix:/run/app.sock"'
NAME_HINT = 'write it like "app.internal:8080"'
SERVICE_HINT = 'write it like "_http._tcp.app.internal"'
SERVER_HINT = 'write it like "127.0.0.1:53" or "[::1]:53"'
NETWORK_HINT = 'write it like "10.0.0.0/8", "fd00::/8", "192.0.2.7" or "unix:"'

# What is suggested where none is written.
_USUAL_PORTS = {LISTEN_HINT: 8080, SERVER_HINT: 53}

# Consul has names without underscores, too. RFC 1035 §2.3.4: labels of up to 63 octets, and 255 in all on the wire.
_SERVICE = re.compile(r"([A-Za-z0-9_-]{1,63}\.)*[A-Za-z0-9_-]{1,63}\.?")
_NAME_MAX = 253
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
    return _connectable(value, ENDPOINT_HINT)


def _connectable(value: object, hint: str) -> HostPort:
    address = _address(value, hint)
    if address.unix_path:
        return address
    if address.port == 0:
        raise Wrong("{value} has port 0", "name the port that the backend listens on", hint)
    if ":" not in address.host and parse_host(address.host.encode()) is None:
        raise Wrong("{value} is not an address", hint, hint)
    return address


def name_and_port(value: object) -> HostPort:
    """A name that is looked up, with a port."""
    address = _connectable(value, NAME_HINT)
    if address.unix_path or _is_ip(address.host):
        raise Wrong(
            "{value} is no name that could be looked up", f"name it: endpoints = [{toml_text(value)}]", NAME_HINT
        )
    return address


def service_name(value: object) -> str:
    """The name of SRV records: _service._protocol.name (RFC 2782)."""
    if not isinstance(value, str):
        raise Wrong(f"must be a name, not {kind(value)}", SERVICE_HINT, SERVICE_HINT)
    if ":" in value:
        raise Wrong("{value} has a port, and SRV records say theirs", SERVICE_HINT, SERVICE_HINT)
    if len(value) > _NAME_MAX or _SERVICE.fullmatch(value) is None:
        raise Wrong("{value} is not a name", SERVICE_HINT, SERVICE_HINT)
    return value


def dns_server(value: object) -> HostPort:
    """The IP address and port of a DNS server."""
    address = _address(value, SERVER_HINT)
    if address.unix_path or not _is_ip(address.host) or address.port == 0:
        raise Wrong("{value} is no IP address with a port", SERVER_HINT, SERVER_HINT)
    return address


def _is_ip(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


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
    return f'write "{host}:{_USUAL_PORTS.get(hint, 80)}"'
