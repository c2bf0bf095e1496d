"""A configuration file, read and compiled, or all that is wrong with it."""

from __future__ import annotations

import gc
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastgw.config.acme_checks import acme_settings
from fastgw.config.acme_settings import AcmeSettings
from fastgw.config.admin import AdminSettings, admin_settings
from fastgw.config.checks import check
from fastgw.config.compile import compile_config, compile_router
from fastgw.config.document import Document
from fastgw.config.interpolate import Interpolation
from fastgw.config.problems import Report
from fastgw.config.schema import Config, Test
from fastgw.config.tls_files import TlsFiles, read_tls_files, tls_paths
from fastgw.config.trace_settings import TraceExport
from fastgw.config.tracing import trace_export
from fastgw.config.validate import validate
from fastgw.errors import ConfigError, Problem
from fastgw.snapshot import Snapshot

_PLACE = re.compile(r"^(.*) \(at (?:line (\d+), column (\d+)|end of document)\)$", re.DOTALL)
# The example has 10 KB; 100,000 routes have 15 MB. More is a wrong file.
_FILE_SIZE_MAX = 256 * 1024 * 1024


@dataclass(frozen=True)
class ListenerCertificate:
    """`expires` is in seconds since 1970."""

    listener: str
    file: str
    expires: float


@dataclass(frozen=True)
class LoadedConfig:
    """A configuration without problems, in each of its forms."""

    file: str
    document: Document
    model: Config
    tests: tuple[Test, ...]
    snapshot: Snapshot
    # Sentences for whoever runs the gateway.
    warnings: tuple[str, ...] = ()
    # Certificates, keys, authorities.
    tls_paths: tuple[Path, ...] = ()
    # For the process that gets certificates; None: there is none.
    acme: AcmeSettings | None = None
    # None: there is no admin API.
    admin: AdminSettings | None = None
    # None: nothing is traced.
    tracing: TraceExport | None = None
    certificates: tuple[ListenerCertificate, ...] = ()


def load_config(path: Path) -> LoadedConfig:
    """Reads and compiles a file; raises ConfigError with all its problems."""
    return load_text(decoded(read_content(path, _FILE_SIZE_MAX), str(path)), str(path), path.parent)


def read_content(path: Path, size_max: int) -> bytes:
    """A file's content; raises ConfigError when it can't be read, or is larger."""
    try:
        with path.open("rb") as opened:
            content = opened.read(size_max + 1)
    except OSError as error:
        reason = {FileNotFoundError: "there is no such file", IsADirectoryError: "is a directory"}.get(type(error))
        raise _unreadable(str(path), reason or f"can't be read: {error.strerror}") from None
    if len(content) > size_max:
        raise _unreadable(str(path), f"is larger than {size_max >> 20} MiB")
    return content


def decoded(content: bytes, name: str) -> str:
    """Its text; raises ConfigError when it is none."""
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        before = content[content.rfind(b"\n", 0, error.start) + 1 : error.start]
        column = len(before.decode(errors="replace")) + 1
        raise ConfigError([Problem(name, line, column, "", "not UTF-8", "save it as UTF-8")]) from None
    return text.removeprefix("\ufeff")


def load_text(
    text: str, name: str = "config.toml", base: Path = Path("."), environment: Mapping[str, str] | None = None
) -> LoadedConfig:
    """Reads and compiles a text; relative paths in it start from `base`."""
    # Nothing becomes garbage here, and looking for it again and again is half of the time that 100,000 routes take.
    collects = gc.isenabled()
    gc.disable()
    try:
        return _load_text(text, name, base, os.environ if environment is None else environment)
    except RecursionError:
        raise ConfigError([Problem(name, 1, 1, "", "nested too deep")]) from None
    finally:
        if collects:
            gc.enable()


def _load_text(text: str, name: str, base: Path, environment: Mapping[str, str]) -> LoadedConfig:
    raw = _parse(text, name)
    interpolation = Interpolation(environment, base)
    document = Document(name, text, raw, interpolation.replace(raw), base, interpolation.secrets)
    report = Report(document)
    for path, message, suggestion in interpolation.missing:
        report.at_value(path, message, suggestion)
    missing = frozenset(path for path, _, _ in interpolation.missing)
    model, broken = validate(document.data, report, missing)
    check(model, report, broken)
    tls_files = read_tls_files(model, report)
    router = compile_router(model, report, broken)
    if problems := report.problems():
        raise ConfigError(problems)
    snapshot = compile_config(model, router, base, tls_files)
    acme_names = tls_files.acme_names()
    return LoadedConfig(
        file=name,
        document=document,
        model=model,
        tests=tuple(model.tests),
        snapshot=snapshot,
        warnings=tls_files.warnings,
        tls_paths=tls_paths(model, base, acme_names),
        acme=acme_settings(model, base, acme_names),
        admin=admin_settings(model.admin, base),
        tracing=trace_export(model.tracing),
        certificates=_certificates(snapshot, tls_files),
    )


def _certificates(snapshot: Snapshot, files: TlsFiles) -> tuple[ListenerCertificate, ...]:
    return tuple(
        ListenerCertificate(snapshot.listeners[index].name, str(one.file), one.expires.timestamp())
        for index, listener in files.listeners.items()
        for one in listener.certificates
    )


def _unreadable(name: str, reason: str) -> ConfigError:
    return ConfigError([Problem(name, 0, 0, "", reason)])


def _parse(text: str, name: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except ValueError as error:
        raise ConfigError([toml_problem(error, text, name)]) from None


def toml_problem(error: ValueError, text: str, name: str) -> Problem:
    """What tomllib says of a text."""
    found = _PLACE.match(str(error))
    message = found.group(1) if found else str(error)
    if found and found.group(2):
        line, column = int(found.group(2)), int(found.group(3))
    else:
        last = text.rstrip("\n").rpartition("\n")[2]
        line, column = text.rstrip("\n").count("\n") + 1, len(last) + 1
    return Problem(name, line, column, "", f"not valid TOML: {message[:1].lower()}{message[1:]}")
