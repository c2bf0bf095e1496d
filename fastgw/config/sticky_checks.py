"""What must agree within a cookie that brings a client back."""

from __future__ import annotations

from fastgw.config.document import Path
from fastgw.config.problems import Report
from fastgw.config.sticky import Sticky

# RFC 6265bis §4.1.3: browsers take cookies of these names only with Secure.
_SECURE_PREFIXES = ("__Host-", "__Secure-")


def check_sticky(path: Path, sticky: Sticky, report: Report) -> None:
    if not sticky.secret:
        report.at_value((*path, "secret"), "there is no secret", 'write secret = "${NAME}"')
    if sticky.secure:
        return
    hint = "write secure = true"
    if sticky.same_site == "None":
        report.at_value((*path, "same_site"), "browsers take such a cookie only when it is secure", hint)
    if sticky.cookie is not None and sticky.cookie.startswith(_SECURE_PREFIXES):
        report.at_value((*path, "cookie"), "browsers take a cookie of that name only when it is secure", hint)
