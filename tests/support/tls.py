"""Certificates for tests, and a client that speaks TLS."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

import trustme

from tests.support.client import Client
from tests.support.wire import PATIENCE_S, Wire


class Authority:
    """Signs certificates, and writes each as NAME.pem and NAME.key into a directory; its own is ca.pem."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ca = trustme.CA()
        self.ca.cert_pem.write_to_path(str(directory / "ca.pem"))

    def issue(self, file: str, *names: str, kind: trustme.KeyType = trustme.KeyType.ECDSA) -> trustme.LeafCert:
        made = self.ca.issue_cert(*names, key_type=kind)
        (self.directory / f"{file}.pem").write_bytes(b"".join(one.bytes() for one in made.cert_chain_pems))
        made.private_key_pem.write_to_path(str(self.directory / f"{file}.key"))
        return made

    def server(self, own: trustme.LeafCert) -> ssl.SSLContext:
        """A server's context, with a certificate that was issued."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        own.configure_cert(context)
        return context

    def client(self, version: ssl.TLSVersion | None = None, own: trustme.LeafCert | None = None) -> ssl.SSLContext:
        """A client's context: trusts the authority, speaks one version or all, and shows its own certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.ca.configure_trust(context)
        context.set_alpn_protocols(["h2", "http/1.1"])
        if version is not None:
            context.minimum_version = context.maximum_version = version
        if own is not None:
            own.configure_cert(context)
        return context


class TlsClient(Client):
    """One TLS connection; `name` is asked for and verified, and `ahead` is sent in plain text before all else."""

    def __init__(
        self,
        address: tuple[str, int],
        context: ssl.SSLContext,
        name: str = "a.test",
        ahead: bytes = b"",
        session: ssl.SSLSession | None = None,
        receive_buffer: int | None = None,
    ) -> None:
        plain = socket.socket()
        if receive_buffer is not None:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        plain.settimeout(PATIENCE_S)
        plain.connect(address)
        plain.sendall(ahead)
        try:
            self.tls = context.wrap_socket(plain, server_hostname=name, session=session, suppress_ragged_eofs=False)
        except BaseException:
            plain.close()
            raise
        Wire.__init__(self, self.tls)

    def say_goodbye(self) -> None:
        """Says that this was all (close_notify), and waits for the same."""
        self.sock = self.tls.unwrap()
