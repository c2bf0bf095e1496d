"""A listener's certificates: the names they are for, their kinds of key, and which of them a server name gets."""

from __future__ import annotations

import base64
import binascii
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from fastgw.policy.tls_session import CertificateNames

_EC = "EC"
_RSA = "RSA"
# How a private key says of which kind it is: in its label (RFC 5915, RFC 8017), or by an object identifier near the
# beginning of its DER (RFC 5958).
_LABELS = {"EC PRIVATE KEY": _EC, "RSA PRIVATE KEY": _RSA}
_IDENTIFIERS = {b"\x2a\x86\x48\xce\x3d\x02\x01": _EC, b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01": _RSA}
_IDENTIFIER_ENDS = 40


@dataclass(frozen=True)
class Certificate:
    """One pair. `names` are lower-case: host names, IP addresses, and "*.example.com"."""

    file: Path
    cert: bytes
    key: bytes = field(repr=False)
    # Two of different kinds may stand side by side; "" is any other.
    kind: str
    names: tuple[str, ...]
    expires: datetime

    def warning(self) -> str:
        """A sentence about it, where whoever runs the gateway has something to do; or ""."""
        if self.expires >= datetime.now(UTC):
            return ""
        return f"the certificate in {self.file} has expired on {self.expires:%Y-%m-%d}: browsers refuse it"


def read_certificate(file: Path, cert: bytes, key: bytes) -> Certificate:
    """A pair of which OpenSSL has read the certificate in `file` already."""
    # Only so does Python decode a certificate that nobody has verified.
    from _ssl import _test_decode_cert  # type: ignore[attr-defined]  # noqa: PLC0415

    decoded = _test_decode_cert(str(file))
    expires = datetime.fromtimestamp(ssl.cert_time_to_seconds(str(decoded["notAfter"])), UTC)
    names = [str(name).lower() for kind, name in decoded.get("subjectAltName", ()) if kind in ("DNS", "IP Address")]
    if not names:
        # Nobody looks there any more (RFC 9525 §2), but for internal ones it may be all there is.
        parts = [pair for part in decoded.get("subject", ()) for pair in part]
        names = [str(value).lower() for kind, value in parts if kind == "commonName"]
    return Certificate(file, cert, key, _key_kind(key), tuple(dict.fromkeys(names)), expires)


def _key_kind(pem: bytes) -> str:
    """Of the first private key in it."""
    before, _, after = pem.decode("latin-1").partition("PRIVATE KEY-----")
    label = before.rpartition("-----BEGIN ")[2] + "PRIVATE KEY"
    if label in _LABELS:
        return _LABELS[label]
    text = after.partition("-----END")[0]
    try:
        start = base64.b64decode("".join(text.split()))[:_IDENTIFIER_ENDS]
    except binascii.Error:
        return ""
    return next((kind for identifier, kind in _IDENTIFIERS.items() if identifier in start), "")


def group_certificates(certificates: Sequence[Certificate]) -> tuple[tuple[tuple[int, ...], ...], CertificateNames]:
    """The groups that are shown together, and which of them a name gets.

    A name gets the first certificate of each kind of key that is for it; group 0 has the first of all, and those that
    are for all its names.
    """
    groups: list[tuple[int, ...]] = [_group(certificates, set(certificates[0].names))]
    exact: dict[bytes, int] = {}
    wildcard: dict[bytes, int] = {}
    for name in dict.fromkeys(name for one in certificates for name in one.names):
        group = _group(certificates, {name})
        if group not in groups:
            groups.append(group)
        where = wildcard if name.startswith("*.") else exact
        where[name.removeprefix("*.").encode()] = groups.index(group)
    return tuple(groups), CertificateNames(exact, wildcard)


def _group(certificates: Sequence[Certificate], names: set[str]) -> tuple[int, ...]:
    """The certificates that are for all of these names, one of each kind of key."""
    chosen: dict[str, int] = {}
    for index, one in enumerate(certificates):
        if names <= set(one.names):
            chosen.setdefault(one.kind, index)
        if not names:
            # It names nobody, so the first stands alone.
            break
    return tuple(chosen.values())
