"""How the values of `[acme]` are read."""

from __future__ import annotations

import base64
import binascii
import re
from ipaddress import ip_address

from fastgw.config.patterns import host_pattern
from fastgw.config.problems import Wrong, kind

_NAMES_HINT = 'write true, or list the hosts: ["shop.example.com"]'
_URL_HINT = 'write it like "https://acme-v02.api.letsencrypt.org/directory"'
_EMAIL_HINT = 'write it like "ops@example.com"'
_HMAC_HINT = "write it as the authority has given it, in base64url"

_HTTPS_URL = re.compile(r"https://[^\s/?#@]+(/[^\s#]*)?")
_EMAIL = re.compile(r"[^\s@,]+@[^\s@,]+")


def acme_names(value: object) -> bool | list[str]:
    """Whether all hosts get certificates, or the hosts that do."""
    if isinstance(value, bool):
        return value
    if not isinstance(value, list):
        raise Wrong(f"must be true, false or a list of hosts, not {kind(value)}", _NAMES_HINT, _NAMES_HINT)
    if not value:
        raise Wrong("names nobody", _NAMES_HINT, _NAMES_HINT)
    return [_certifiable_name(name) for name in value]


def _certifiable_name(value: object) -> str:
    name = host_pattern(value)
    if name.startswith("*."):
        hint = "name the hosts one by one, or give a certificate of your own for it"
        raise Wrong("{value}: no certificate for a wildcard can be had by http-01 or tls-alpn-01", hint, hint)
    if is_ip(name):
        raise Wrong("{value}: certificates are had for names, not for IP addresses", _NAMES_HINT, _NAMES_HINT)
    return name


def is_ip(host: str) -> bool:
    """Whether a host is an IP address, in brackets or not."""
    try:
        ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


def https_url(value: object) -> str:
    """A URL by https (RFC 8555 §6.1 allows no other)."""
    if not isinstance(value, str):
        raise Wrong(f"must be a URL, not {kind(value)}", _URL_HINT, _URL_HINT)
    if _HTTPS_URL.fullmatch(value) is None:
        raise Wrong("{value} is not a URL by https", _URL_HINT, _URL_HINT)
    return value


def email(value: object) -> str:
    if not isinstance(value, str):
        raise Wrong(f"must be an address, not {kind(value)}", _EMAIL_HINT, _EMAIL_HINT)
    if _EMAIL.fullmatch(value) is None:
        raise Wrong("{value} is not one e-mail address", _EMAIL_HINT, _EMAIL_HINT)
    return value


def hmac_key(value: object) -> str:
    """Base64url without padding (RFC 4648 §5), as authorities give it."""
    if not isinstance(value, str):
        raise Wrong(f"must be a string, not {kind(value)}", _HMAC_HINT, _HMAC_HINT)
    text = value.rstrip("=")
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not key:
        raise Wrong("is not base64url", _HMAC_HINT, _HMAC_HINT)
    return text
