"""The PEM files of TLS, on both sides: read once, with the configuration, and tried out before they are relied on."""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path as FilePath

from fastgw.config.acme_checks import uncertifiable_hosts, wanted_names
from fastgw.config.acme_files import covered, read_acme_certificates
from fastgw.config.acme_settings import certificate_file
from fastgw.config.certificates import Certificate, read_certificate
from fastgw.config.document import Path
from fastgw.config.problems import Report
from fastgw.config.schema import CertificatePair, Config, ListenerTls, Upstream, UpstreamTls

# A bundle of all public authorities has 230 KB.
_FILE_SIZE_MAX = 16 * 1024 * 1024
_PATHS_HINT = "paths start at this file"
# How OpenSSL calls a key that is not the certificate's: one of the same kind, and one of another.
_MISMATCHES = ("KEY_VALUES_MISMATCH", "NO_CERTIFICATE_ASSIGNED")


@dataclass(frozen=True)
class PemFiles:
    """What the files of one upstream hold; empty: there is no such file."""

    ca: bytes = b""
    cert: bytes = b""
    key: bytes = b""


@dataclass(frozen=True)
class ListenerFiles:
    """What the files of one listener hold: the authorities of its clients, and its own certificates. `acme_names` are
    the hosts whose certificates are had from an ACME authority."""

    client_ca: bytes
    certificates: tuple[Certificate, ...]
    acme_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class TlsFiles:
    """By upstream's name, and by listener's index. `warnings` are sentences about what works, but not for long."""

    upstreams: Mapping[str, PemFiles]
    listeners: Mapping[int, ListenerFiles]
    warnings: tuple[str, ...]

    def acme_names(self) -> tuple[str, ...]:
        """Those of all listeners."""
        return tuple(dict.fromkeys(name for files in self.listeners.values() for name in files.acme_names))


class _EncryptedError(Exception):
    """A private key asks for its password."""


def read_tls_files(config: Config, report: Report) -> TlsFiles:
    """Reads all of them; reports those that can't be read, or not be used."""
    base = report.document.base
    if config.acme is not None and config.acme.ca is not None:
        # It is the helper process that uses it.
        _read_authorities(base, config.acme.ca, ("acme", "ca"), report)
    upstreams = {
        name: _read_upstream(("upstreams", name), upstream, upstream.tls, report)
        for name, upstream in config.upstreams.items()
        if upstream.tls
    }
    listeners = {
        index: _with_acme(config, listener.tls, _read_listener(("listeners", index, "tls"), listener.tls, report), base)
        for index, listener in enumerate(config.listeners)
        if listener.tls is not None
    }
    certificates = [one for files in listeners.values() for one in files.certificates]
    warnings = [*(one.warning() for one in certificates), *_hosts_without(config, listeners, report)]
    return TlsFiles(upstreams, listeners, tuple(warning for warning in dict.fromkeys(warnings) if warning))


def _with_acme(config: Config, tls: ListenerTls, files: ListenerFiles, base: FilePath) -> ListenerFiles:
    """With the certificates that ACME has brought, for the hosts that have none in a file of the user's."""
    if config.acme is None or not tls.acme:
        return files
    names = tuple(name for name in wanted_names(config, tls) if not covered(name, files.certificates))
    more = read_acme_certificates(base / config.acme.storage, config.acme.directory, names)
    return ListenerFiles(files.client_ca, files.certificates + more, names)


def _hosts_without(config: Config, listeners: Mapping[int, ListenerFiles], report: Report) -> list[str]:
    hosts = [
        report.document.mask(host)
        for index, files in listeners.items()
        if (tls := config.listeners[index].tls) is not None
        for host in uncertifiable_hosts(config, tls)
        if not covered(host, files.certificates)
    ]
    return [f"{host} has no certificate: [acme] gets none for wildcards and IP addresses" for host in hosts]


def tls_paths(config: Config, base: FilePath, acme_names: Sequence[str] = ()) -> tuple[FilePath, ...]:
    """All files that `read_tls_files` reads."""
    names: list[str | None] = []
    for listener in config.listeners:
        if listener.tls:
            names.append(listener.tls.client_ca)
            names += [name for pair in listener.tls.certificates for name in (pair.cert, pair.key)]
    for upstream in config.upstreams.values():
        if upstream.tls:
            names += [upstream.tls.ca, upstream.tls.cert, upstream.tls.key]
    paths = [base / name for name in dict.fromkeys(names) if name is not None]
    if config.acme is not None:
        storage = base / config.acme.storage
        paths += [certificate_file(storage, config.acme.directory, name) for name in acme_names]
    return tuple(paths)


def _read_listener(path: Path, tls: ListenerTls, report: Report) -> ListenerFiles:
    client_ca = _read_authorities(report.document.base, tls.client_ca, (*path, "client_ca"), report)
    found: list[Certificate] = []
    for index, pair in enumerate(tls.certificates):
        where: Path = (*path, "certificates", index)
        certificate = _read_pair(where, pair, report)
        if certificate is None:
            continue
        hidden_by = _same(certificate, found)
        if hidden_by is not None:
            message = f"is never shown: {hidden_by.file} is for the same names, and has the same kind of key"
            report.at_value((*where, "cert"), message, "remove one of them")
        found.append(certificate)
    return ListenerFiles(client_ca or b"", tuple(found))


def _same(certificate: Certificate, others: Sequence[Certificate]) -> Certificate | None:
    mine = (certificate.kind, set(certificate.names))
    return next((other for other in others if (other.kind, set(other.names)) == mine), None)


def _read_pair(path: Path, pair: CertificatePair, report: Report) -> Certificate | None:
    base = report.document.base
    cert = _read(base, pair.cert, (*path, "cert"), report)
    key = cert if pair.key is None else _read(base, pair.key, (*path, "key"), report)
    if cert is None or key is None or not _try_pair(base, pair.cert, pair.key, path, report):
        return None
    return read_certificate(base / pair.cert, cert, key)


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
    ca = _read_authorities(base, tls.ca, (*where, "ca"), report)
    cert = _read(base, tls.cert, (*where, "cert"), report)
    key = cert if tls.key is None else _read(base, tls.key, (*where, "key"), report)
    if cert is not None and key is not None and tls.cert is not None:
        _try_pair(base, tls.cert, tls.key, where, report)
    return PemFiles(ca or b"", cert or b"", key or b"")


def _read(base: FilePath, name: str | None, where: Path, report: Report) -> bytes | None:
    if name is None:
        return None
    file = base / name
    try:
        with file.open("rb") as opened:
            content = opened.read(_FILE_SIZE_MAX + 1)
    except OSError as error:
        report.at_value(where, f"the file {file} can't be read: {error.strerror}", _PATHS_HINT)
        return None
    if b"-----BEGIN " not in content or len(content) > _FILE_SIZE_MAX:
        report.at_value(where, f"the file {file} is not PEM", "convert it with openssl")
        return None
    return content


def _read_authorities(base: FilePath, name: str | None, where: Path, report: Report) -> bytes | None:
    content = _read(base, name, where, report)
    if content is not None and name is not None:
        _try_authorities(base / name, where, report)
    return content


def _try_authorities(file: FilePath, where: Path, report: Report) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(file)
    except (OSError, ValueError):
        report.at_value(where, f"the file {file} holds no certificate that can be read", "name a PEM file of them")


def _try_pair(base: FilePath, cert: str, key: str | None, where: Path, report: Report) -> bool:
    """Whether the certificate and the private key of two files, or of one, can be used together."""
    cert_file, key_file = base / cert, base / (cert if key is None else key)
    key_where = (*where, "cert" if key is None else "key")
    if b"PRIVATE KEY-----" not in key_file.read_bytes():
        report.at_value(key_where, f"the file {key_file} holds no private key", 'name its file: key = "FILE"')
        return False
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(cert_file, key_file, _no_password)
    except _EncryptedError:
        suggestion = "store it without a password, readable by the gateway only"
        report.at_value(key_where, f"the private key in {key_file} is encrypted", suggestion)
    except ssl.SSLError as error:
        if error.reason in _MISMATCHES:
            message = f"the private key in {key_file} does not belong to the certificate in {cert_file}"
            report.at_value(key_where, message, "name the one that was made with it")
        else:
            message = f"the certificate in {cert_file} or its private key can't be used: {error.reason or error}"
            report.at_value((*where, "cert"), message, "name PEM files")
    else:
        return True
    return False


def _no_password() -> str:
    raise _EncryptedError
