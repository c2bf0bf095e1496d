"""What must agree within the access log's table."""

from __future__ import annotations

from fastgw.config.access_log import AccessLog
from fastgw.config.document import Path, touches
from fastgw.config.problems import Report
from fastgw.policy.redaction import RedactionSettings, plain_name

_PATH: Path = ("access_log",)


def check_access_log(log: AccessLog, report: Report, broken: frozenset[Path]) -> None:
    """Reports all contradictions."""
    path: Path = (*_PATH, "fields")
    if log.format == "combined" and "fields" in log.model_fields_set:
        report.at_key(path, "the combined format has its own fields", 'remove fields, or write format = "json"')
    if not log.fields:
        report.at_value(path, "a line without fields says nothing", 'name some, or write path = "off"')
    for index, name in enumerate(log.fields):
        if name in log.fields[:index]:
            report.at_value((*path, index), "the field is there twice", "remove one")
    if log.syslog.model_fields_set and not log.path.transport and not touches(broken, (*_PATH, "path")):
        report.at_key((*_PATH, "syslog"), "nothing goes to a syslog", 'write path = "syslog:udp://127.0.0.1:514"')
    _check_clear(log, report)


def _check_clear(log: AccessLog, report: Report) -> None:
    by_default = RedactionSettings()
    for index, written in enumerate(log.redact.clear):
        where: Path = (*_PATH, "redact", "clear", index)
        kind, _, name = written.partition(":")
        if kind == "query":
            plain = plain_name(name.encode())
            is_added = plain in {plain_name(other.encode()) for other in log.redact.query}
            is_hidden = plain in by_default.query
        else:
            is_added = name.lower() in {other.lower() for other in log.redact.headers}
            is_hidden = name.lower().encode() in by_default.headers
        if is_added:
            report.at_value(where, "contradicts redact", "keep one of them")
        elif not is_hidden:
            report.at_value(where, f"{report.show(where)} is not hidden anyway", "remove it")
