"""What every table of the TOML language has in common."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


def setting(default: Any, description: str) -> Any:
    """A key with its default, as the file would write it."""
    return Field(default, description=description)


def section(table: type[BaseModel], description: str) -> Any:
    """A table that is there with its defaults when the file doesn't have it."""
    return Field(default_factory=table, description=description)


class Table(BaseModel):
    """A table: unknown keys are refused, and defaults are written as in the file."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, validate_default=True)
