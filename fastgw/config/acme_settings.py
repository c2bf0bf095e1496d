"""What is asked of an ACME authority, and where what it gives is kept; for supervisor and helper process."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path


def certificate_file(storage: Path, directory: str, name: str) -> Path:
    """Where the certificate for a name is, with its chain and its key in one file: no crash can part them."""
    return folder(storage, directory) / f"{name}.pem"


def folder(storage: Path, directory: str) -> Path:
    """An authority's own: who changes from one for trying out to the real one gets new certificates."""
    return storage / re.sub(r"[^a-z0-9.]+", "-", directory.lower().removeprefix("https://")).strip("-.")


@dataclass(frozen=True)
class AcmeSettings:
    """`renew_before` is in seconds, 0 for a third of a certificate's lifetime. `names` are in the order of ordering."""

    directory: str
    storage: Path
    challenge: str
    names: tuple[str, ...]
    email: str = ""
    # PEM; None: the public authorities.
    ca: Path | None = None
    renew_before: float = 0.0
    # Of the account at the authority that the new one belongs to; empty: there is none.
    key_id: str = ""
    hmac_key: str = field(default="", repr=False)

    @property
    def folder(self) -> Path:
        return folder(self.storage, self.directory)

    def certificate_file(self, name: str) -> Path:
        return certificate_file(self.storage, self.directory, name)
