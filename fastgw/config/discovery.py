"""The table of an upstream that says where its endpoints are found, and what must agree in it."""

from __future__ import annotations

from importlib.util import find_spec

from fastgw.config import values as v
from fastgw.config.document import Path, touches
from fastgw.config.problems import Report
from fastgw.config.table import Table, setting

# Where endpoints may be found; one of them.
SOURCES = ("dns", "srv", "file")
_SOURCE_HINT = 'write dns = "app.internal:8080", srv = "_http._tcp.app.internal" or file = "endpoints.toml"'
# What the extra brings, by the name that is imported.
_PACKAGE = "aiodns"
_INSTALL = "install it: pip install 'fastgw[dns]'"


class Discover(Table):
    """Where an upstream's endpoints are found while the gateway runs: one of dns, srv and file."""

    dns: v.NameAndPort | None = setting(None, "A name and a port: each address of the name is an endpoint.")
    srv: v.ServiceName | None = setting(
        None, "A name with SRV records, which say endpoints, weights, and by their priority who is a backup."
    )
    file: v.FilePath | None = setting(None, "A TOML or JSON file with a list of endpoints, watched.")
    server: v.DnsServer | None = setting(None, "The DNS server; the system's if absent.")
    min_refresh: v.Duration = setting("1s", "A DNS answer is believed for at least as long, whatever its TTL.")
    max_refresh: v.Duration = setting("5m", "And for this at the most.")


def check_discovery(path: Path, discover: Discover, report: Report, broken: frozenset[Path]) -> None:
    """Reports all contradictions inside the table."""
    named = [key for key in SOURCES if getattr(discover, key) is not None]
    if not named and not any(touches(broken, (*path, key)) for key in SOURCES):
        report.at_key(path, "nothing says where endpoints are found", _SOURCE_HINT)
    for key in named[1:]:
        report.at_key((*path, key), f"there is {named[0]} already", "remove one of them")
    if named == ["file"]:
        for key in ("server", "min_refresh", "max_refresh"):
            if key in discover.model_fields_set:
                report.at_key((*path, key), "is about DNS, and a file is looked at every second", "remove it")
    elif named and find_spec(_PACKAGE) is None:
        report.at_key((*path, named[0]), f"the package {_PACKAGE} is not installed", _INSTALL)
    if discover.min_refresh > discover.max_refresh:
        report.at_key(path, "the bounds are not in order", "write min_refresh <= max_refresh")
