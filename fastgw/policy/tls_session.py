"""What a TLS handshake settled, as far as requests are concerned: whose certificate was shown, who the client is."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# RFC 4514 §2.4: what is escaped in a name; what is not printable ASCII becomes hexadecimal.
_SPECIAL = re.compile(rb'[,+"\\<>;]|[^ -~]')
_SHORT_NAMES = {
    "commonName": "CN",
    "countryName": "C",
    "localityName": "L",
    "stateOrProvinceName": "ST",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "domainComponent": "DC",
    "userId": "UID",
}
# What only the gateway may tell of a client's certificate, in any spelling that is the same to CGI and WSGI: its own
# four lines, and those of RFC 9440 (§2.4), which a backend may believe, too.
CLIENT_CERTIFICATE_LINES = re.compile(
    rb"\r\n(?i:x[-_]client[-_]cert[-_](?:subject|san|fingerprint|verify)|client[-_]cert(?:[-_]chain)?):[^\r]*"
)
# For a client that has shown none, where it need not.
NO_CERTIFICATE_LINES = b"\r\nX-Client-Cert-Verify: NONE"


@dataclass(frozen=True, slots=True)
class CertificateNames:
    """Which group of certificates a name gets: by its exact name, by a wildcard for its first label, or the first."""

    exact: Mapping[bytes, int]
    wildcard: Mapping[bytes, int]

    def group(self, name: bytes) -> int:
        """The group for a name in lower case; 0 is the default (RFC 6066 §3 leaves it to the server)."""
        found = self.exact.get(name)
        if found is None:
            found = self.wildcard.get(name.partition(b".")[2])
        return found or 0


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """Who the client has proved to be. `subject` is as RFC 4514 writes it, `san` like "DNS:a.test,URI:spiffe://b/c";
    `fingerprint` is SHA-256 of the certificate (DER), in hexadecimal."""

    subject: str
    san: str
    fingerprint: str

    def lines(self) -> bytes:
        """The header lines that tell an upstream of it; one that was not verified does not come this far."""
        return (
            f"\r\nX-Client-Cert-Subject: {self.subject}\r\nX-Client-Cert-San: {self.san}"
            f"\r\nX-Client-Cert-Fingerprint: {self.fingerprint}\r\nX-Client-Cert-Verify: SUCCESS"
        ).encode("ascii")


@dataclass(frozen=True, slots=True)
class TlsSession:
    """One connection's. `server_name` is the name that the client asked for, lower-case, or empty."""

    version: str
    server_name: bytes
    group: int
    # None: there is one group only, and nothing to be told apart.
    names: CertificateNames | None
    certificate: ClientCertificate | None = None
    # What the upstream is told of the certificate; empty unless the listener says so.
    lines: bytes = b""

    def misdirects(self, host_name: bytes) -> bool:
        """Whether a request for that host belongs to another certificate than the one asked for (RFC 9110 §15.5.20)."""
        if self.names is None or host_name == self.server_name or not self.server_name or not host_name:
            # HTTP/1.0 may name no host.
            return False
        return self.names.group(host_name) != self.group


def subject_text(subject: Sequence[Sequence[tuple[str, str]]]) -> str:
    """A distinguished name as RFC 4514 writes it: the last part first."""
    parts = ["+".join(f"{_SHORT_NAMES.get(name, name)}={_escaped(value)}" for name, value in one) for one in subject]
    return ",".join(reversed(parts))


def san_text(names: Sequence[tuple[str, str]]) -> str:
    """Alternative names as "DNS:a.test,URI:spiffe://b/c"."""
    return ",".join(f"{_escaped(kind)}:{_escaped(value)}" for kind, value in names)


def _escaped(value: str) -> str:
    def escape(found: re.Match[bytes]) -> bytes:
        byte = found.group()
        return b"\\" + byte if 0x20 <= byte[0] < 0x7F else b"\\%02X" % byte[0]

    return _SPECIAL.sub(escape, value.encode("utf-8", "surrogateescape")).decode("ascii")
