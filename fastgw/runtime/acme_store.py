"""What ACME brings, on disk: `storage` (0700) with a folder for each authority, its files (0600) whole at any time.

storage/lock                                     held by the one process that orders
storage/acme-v02.api.letsencrypt.org-directory/
    account.key                                  the account is known by it
    attempts.json                                when orders of the last hour were begun
    shop.example.com.pem                         key, certificate and chain
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fastgw.config.acme_settings import AcmeSettings
from fastgw.runtime.acme_renewals import Validity

_FOLDER_MODE, _FILE_MODE = 0o700, 0o600


class Store:
    """Methods raise OSError."""

    def __init__(self, settings: AcmeSettings) -> None:
        self._settings = settings
        self._lock = -1

    def take(self) -> bool:
        """Whether this process is the one that orders; so it stays until `let_go`, or its end."""
        storage, folder = self._settings.storage, self._settings.folder
        # Parents have the mode that is usual for them; one that is there already may be others', too.
        storage.parent.mkdir(parents=True, exist_ok=True)
        storage.mkdir(_FOLDER_MODE, exist_ok=True)
        folder.mkdir(_FOLDER_MODE, exist_ok=True)
        folder.chmod(_FOLDER_MODE)
        descriptor = os.open(storage / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _FILE_MODE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        self._lock = descriptor
        return True

    def let_go(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def account_key(self) -> bytes:
        """PEM; made when there is none."""
        file = self._settings.folder / "account.key"
        with contextlib.suppress(FileNotFoundError):
            return file.read_bytes()
        key = new_key()
        self._write(file, key)
        return key

    def validities(self) -> dict[str, Validity]:
        """Of the certificates that are there and can be used."""
        found = {name: self._validity(name) for name in self._settings.names}
        return {name: validity for name, validity in found.items() if validity is not None}

    def _validity(self, name: str) -> Validity | None:
        try:
            pem = self._settings.certificate_file(name).read_bytes()
            return validity_of(pem, name)
        except (OSError, ValueError, TypeError):
            return None

    def save(self, name: str, pem: bytes) -> None:
        self._write(self._settings.certificate_file(name), pem)

    def attempts(self) -> dict[str, list[float]]:
        try:
            found = json.loads((self._settings.folder / "attempts.json").read_bytes())
            return {str(name): [float(at) for at in times] for name, times in found.items()}
        except (OSError, ValueError, TypeError, AttributeError):
            # It only spares the authority.
            return {}

    def save_attempts(self, attempts: Mapping[str, Sequence[float]]) -> None:
        self._write(self._settings.folder / "attempts.json", json.dumps(attempts).encode())

    @staticmethod
    def _write(file: Path, content: bytes) -> None:
        """The file is the old one or the new one at any moment, also when the machine goes down."""
        # One name for all that is not whole yet: what a crash leaves behind is overwritten.
        new = file.with_name("new")
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, _FILE_MODE)
        with os.fdopen(descriptor, "wb") as opened:
            os.fchmod(descriptor, _FILE_MODE)
            opened.write(content)
            opened.flush()
            os.fsync(descriptor)
        new.replace(file)
        folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def new_key() -> bytes:
    """PEM. P-256: small, fast, and every authority and client takes it."""
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def validity_of(pem: bytes, name: str) -> Validity:
    """Of the certificate in a file of key and chain. Raises ValueError when it is not for the name, or the key is not
    its own."""
    certificate = x509.load_pem_x509_certificates(pem)[0]
    key = serialization.load_pem_private_key(pem, None)
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound as error:
        raise ValueError(str(error)) from None
    if name not in names.get_values_for_type(x509.DNSName):
        raise ValueError(f"the certificate is not for {name}")
    if certificate.public_key() != key.public_key():
        raise ValueError("the certificate is for another key")
    return Validity(certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp())
