"""What `fastgw status` prints for people."""

from __future__ import annotations

from typing import Any


def status_text(state: dict[str, Any]) -> str:
    """A running gateway as people read it."""
    where = ", ".join(f"{listener['name']} on {listener['address']}" for listener in state["listeners"])
    lines = [f"fastgw {state['version']}, process {state['pid']}, since {state['since']}: {state['config']} ({where})"]
    for worker in state["workers"]:
        exchanges = ", ".join(f"{count} {ended}" for ended, count in worker["exchanges"].items() if count)
        connections = f"{worker['connections']} of {counted(worker['accepted'], 'connection')} open"
        failed = f"; {counted(failures, 'failed handshake')}" if (failures := worker["failed_handshakes"]) else ""
        lines.append(
            f"worker {worker['number']}, process {worker['pid']}: {connections}; {exchanges or 'no exchanges'}{failed}"
        )
    for event in state["events"]:
        lines.append(f"event {event['number']}: {event['kind']} {event['outcome']} at {event['at']}: {event['detail']}")
    return "\n".join(lines)


def counted(number: int, thing: str) -> str:
    """With its noun in one or many."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
