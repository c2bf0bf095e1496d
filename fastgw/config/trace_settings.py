"""What the process that exports traces is told of the configuration."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class TraceExport:
    """`endpoint` is the URL of an OTLP receiver, without `/v1/traces`; `attributes` are those of the resource."""

    endpoint: str
    service_name: str
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    attributes: tuple[tuple[str, str], ...] = ()
