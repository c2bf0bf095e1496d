"""The PEM files of upstreams' TLS: read once, with the configuration, and tried out before they are relied on."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path as FilePath

from fastgw.config.document import Path
from fastgw.config.problems import Report
from fastgw.config.schema import Config, Upstream, UpstreamTls

# A bundle of all public authorities has 230 KB.
_FILE_SIZE_MAX = 16 * 1024 * 1024


@dataclass(frozen=True)
class PemFiles:
    """What the files of one upstream hold; empty: there is no such file."""

    ca: bytes = b""
    cert: bytes = b""
    key: bytes = b""


class _EncryptedError(Exception):
    """A private key asks for its password."""


def read_pem_files(config: Config, report: Report) -> Mapping[str, PemFiles]:
    """By upstream; reports those that can't be read, or not be used."""
    return {
        name: _read_upstream(("upstreams", name), upstream, upstream.tls, report)
        for name, upstream in config.upstreams.items()
        if upstream.tls
    }


def _read_upstream(path: Path, upstream: Upstream, tls: UpstreamTls, report: Report) -> PemFiles:
    where: Path = (*path, "tls")
    if not tls.verify and tls.ca is not None:
        report.at_value((*where, "ca"), "nothing is verified, so nobody is trusted", "remove ca, or verify = false")
    if tls.key is not None and tls.cert is None:
        report.at_value((*where, "key"), "there is no certificate for it", 'name its file: cert = "client.pem"')
    unnamed = any(endpoint.address.unix_path for endpoint in upstream.endpoints)
    if unnamed and tls.verify and tls.server_name is None:
        message = "a Unix socket has no name that could be verified"
        report.at_key(where, message, 'write server_name = "products.internal"')
    base = report.document.base
    ca = _read(base, tls.ca, (*where, "ca"), report)
    cert = _read(base, tls.cert, (*where, "cert"), report)
    key = cert if tls.key is None else _read(base, tls.key, (*where, "key"), report)
    if ca is not None and tls.ca is not None:
        _try_authorities(base / tls.ca, (*where, "ca"), report)
    if cert is not None and key is not None and tls.cert is not None:
        _try_pair(base, tls, where, report)
    return PemFiles(ca or b"", cert or b"", key or b"")


def _read(base: FilePath, name: str | None, where: Path, report: Report) -> bytes | None:
    if name is None:
        return None
    file = base / name
    try:
        with file.open("rb") as opened:
            content = opened.read(_FILE_SIZE_MAX + 1)
    except OSError as error:
        report.at_value(where, f"the file {file} can't be read: {error.strerror}", "paths start at this file")
        return None
    if b"-----BEGIN " not in content or len(content) > _FILE_SIZE_MAX:
        report.at_value(where, f"the file {file} is not PEM", "convert it with openssl")
        return None
    return content


def _try_authorities(file: FilePath, where: Path, report: Report) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(file)
    except (OSError, ValueError):
        report.at_value(where, f"the file {file} holds no certificate that can be read", "name a PEM file of them")


def _try_pair(base: FilePath, tls: UpstreamTls, where: Path, report: Report) -> None:
    cert_file, key_file = base / (tls.cert or ""), base / (tls.key or tls.cert or "")
    key_where = (*where, "cert" if tls.key is None else "key")
    if b"PRIVATE KEY-----" not in key_file.read_bytes():
        report.at_value(key_where, f"the file {key_file} holds no private key", 'name its file: key = "client.key"')
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(cert_file, key_file, _no_password)
    except _EncryptedError:
        suggestion = "store it without a password, readable by the gateway only"
        report.at_value(key_where, f"the private key in {key_file} is encrypted", suggestion)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            message = f"the private key in {key_file} does not belong to the certificate in {cert_file}"
            report.at_value(key_where, message, "name the one that was made with it")
        else:
            message = f"the certificate in {cert_file} or its private key can't be used: {error.reason or error}"
            report.at_value((*where, "cert"), message, "name PEM files")


def _no_password() -> str:
    raise _EncryptedError
