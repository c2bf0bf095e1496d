"""What must agree within one listener: its limits, its TLS, and what comes ahead of requests."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network

from fastgw.config.document import Path, touches
from fastgw.config.problems import Report
from fastgw.config.schema import Hsts, Listener, ListenerTls

# What hstspreload.org asks for: a year.
_PRELOAD_MIN_S = 365 * 86400


def check_listener(
    path: Path,
    listener: Listener,
    trusted: Sequence[IPv4Network | IPv6Network | None],
    report: Report,
    broken: frozenset[Path],
) -> None:
    """Reports all contradictions in a listener; `trusted` are the networks whose PROXY headers are believed."""
    limits = listener.limits
    if "target_size" in limits.model_fields_set and limits.target_size > limits.head_size:
        message = "is more than head_size, and the target is a part of the head"
        suggestion = "write a smaller one, or a larger head_size"
        report.at_value((*path, "limits", "target_size"), message, suggestion)
    if listener.proxy_protocol and not trusted and not touches(broken, ("server", "trusted_proxies")):
        message = "nobody's PROXY header is believed, so every connection would be refused"
        report.at_value(
            (*path, "proxy_protocol"), message, 'name who sends them: server.trusted_proxies = ["10.0.0.0/8"]'
        )
    if listener.tls is not None:
        if listener.redirect_to_https:
            report.at_value((*path, "redirect_to_https"), "contradicts tls", "write it on the listener without TLS")
        _check_tls((*path, "tls"), listener.tls, report, broken)


def _check_tls(path: Path, tls: ListenerTls, report: Report, broken: frozenset[Path]) -> None:
    unclear = touches(broken, (*path, "certificates")) or touches(broken, (*path, "acme"))
    if not tls.certificates and not tls.acme and not unclear:
        suggestion = 'write certificates = [{ cert = "shop.pem", key = "shop.key" }], or acme = true'
        report.at_value((*path, "certificates"), "there is no certificate", suggestion)
    if tls.client_ca is None and not touches(broken, (*path, "client_ca")):
        for key in ("client_auth", "client_cert_headers"):
            if key in tls.model_fields_set and getattr(tls, key):
                message = "no client is asked for a certificate"
                report.at_key((*path, key), message, 'name their authorities: client_ca = "clients-ca.pem"')
    if tls.hsts is not None:
        _check_hsts((*path, "hsts"), tls.hsts, report)


def _check_hsts(path: Path, hsts: Hsts, report: Report) -> None:
    if hsts.preload and (hsts.max_age < _PRELOAD_MIN_S or not hsts.include_subdomains):
        message = "no list takes a host for less than a year, or without all hosts below it"
        report.at_value((*path, "preload"), message, 'write max_age = "365d" and include_subdomains = true')
