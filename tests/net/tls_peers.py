"""Both ends of a TLS connection in memory: contexts with certificates of our own, and a client without a socket."""

from __future__ import annotations

import atexit
import ssl
import tempfile
from functools import cache
from pathlib import Path

import trustme

from fastgw.net.tls_transport import ServerSide

NAME = "a.test"


@cache
def authority() -> trustme.CA:
    return trustme.CA()


@cache
def _pair() -> trustme.LeafCert:
    return authority().issue_cert(NAME)


@cache
def listener_files() -> str:
    """A directory with a.pem, the server's certificate and key, and ca.pem, who has signed it."""
    made = tempfile.TemporaryDirectory(prefix="fastgw-test-")
    atexit.register(made.cleanup)
    directory = Path(made.name)
    _pair().private_key_and_cert_chain_pem.write_to_path(str(directory / "a.pem"))
    authority().cert_pem.write_to_path(str(directory / "ca.pem"))
    return str(directory)


def server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.sslobject_class = ServerSide
    _pair().configure_cert(context)
    return context


def client_context(version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = context.maximum_version = version
    authority().configure_trust(context)
    return context


class MemoryClient:
    """`to_server` is what it has to send, `from_server` takes what comes."""

    def __init__(self, context: ssl.SSLContext, session: ssl.SSLSession | None = None, name: str = NAME) -> None:
        self.from_server, self.to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.side = context.wrap_bio(self.from_server, self.to_server, server_hostname=name, session=session)

    def shake(self) -> bool:
        """One step of the handshake; True when it is complete for the client."""
        try:
            self.side.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def read(self) -> bytes:
        """All that can be read now; ends with EOF when the server has said that this was all."""
        data = b""
        try:
            while piece := self.side.read(1 << 16):
                data += piece
        except ssl.SSLWantReadError:
            return data
        except ssl.SSLZeroReturnError:
            pass
        return data + b"EOF"


def meet(context: ssl.SSLContext, client: MemoryClient) -> ssl.SSLObject:
    """The server's side after the handshake, and a byte to the client, with which a TLS 1.3 ticket comes."""
    side = context.wrap_bio(client.to_server, client.from_server, server_side=True)
    server_done = client_done = False
    while not (server_done and client_done):
        client_done = client.shake()
        try:
            side.do_handshake()
            server_done = True
        except ssl.SSLWantReadError:
            pass
    side.write(b"x")
    assert client.side.read(1) == b"x"
    return side
