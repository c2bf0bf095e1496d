"""The certificates that ACME has brought, and a stand-in for those that are still to come."""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from fastgw.config.acme_settings import certificate_file
from fastgw.config.certificates import Certificate, read_certificate

# A stand-in never lasts until its end: by then the gateway has been started anew, or has got the real one.
_STAND_IN_DAYS = 3650
# A listener with so many sets of hosts that wait has other troubles.
_STAND_INS_KEPT = 64
# A chain of four certificates and a key have 10 KB.
_FILE_SIZE_MAX = 1024 * 1024


def read_acme_certificates(storage: Path, directory: str, names: Iterable[str]) -> tuple[Certificate, ...]:
    """Those that are there, and one of our own for all names without: a listener comes up in any case."""
    found: list[Certificate] = []
    missing: list[str] = []
    for name in names:
        certificate = _stored(certificate_file(storage, directory, name))
        if certificate is not None and name in certificate.names:
            found.append(certificate)
        else:
            missing.append(name)
    # Without the package the configuration is refused anyway.
    if missing and find_spec("cryptography") is not None:
        found.append(_stand_in(tuple(missing)))
    return tuple(found)


def covered(name: str, certificates: Sequence[Certificate]) -> bool:
    """Whether one of them is for a name, or for a wildcard above it."""
    wildcard = f"*.{name.partition('.')[2]}"
    return any(name in one.names or wildcard in one.names for one in certificates)


def _stored(file: Path) -> Certificate | None:
    """None for what can't be used: it is as good as not there, and ordered anew."""
    try:
        with file.open("rb") as opened:
            content = opened.read(_FILE_SIZE_MAX)
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(file, password=str)
        return read_certificate(file, content, content)
    except (OSError, ValueError):
        return None


@lru_cache(_STAND_INS_KEPT)
def _stand_in(names: tuple[str, ...]) -> Certificate:
    """Self-signed, and in memory only. The same one at the next reload, so that nothing changes for a listener."""
    # Only who uses ACME needs it.
    from cryptography import x509  # noqa: PLC0415
    from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "no certificate yet")])
    now = datetime.now(UTC)
    expires = now + timedelta(days=_STAND_IN_DAYS)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(expires)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return Certificate(Path("stand-in"), made.public_bytes(pem), private, "EC", names, expires)
