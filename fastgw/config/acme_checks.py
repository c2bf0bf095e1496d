"""What must agree in `[acme]`, and which hosts its certificates are for."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path as FilePath

from fastgw.config.acme_settings import AcmeSettings
from fastgw.config.acme_values import is_ip
from fastgw.config.document import Path, touches
from fastgw.config.problems import Report
from fastgw.config.schema import Acme, Config, ListenerTls

# What the extra brings, by the names that are imported.
_PACKAGES = ("acme", "josepy", "cryptography")
_INSTALL = "install it: pip install 'fastgw[acme]'"


def check_acme(config: Config, report: Report, broken: frozenset[Path]) -> None:
    """Reports all contradictions between `[acme]`, listeners and routes."""
    asking = [index for index, one in enumerate(config.listeners) if one.tls is not None and one.tls.acme]
    if config.acme is None:
        for index in asking if not touches(broken, ("acme",)) else ():
            message = "there is no [acme] table that says how certificates are had"
            report.at_key(("listeners", index, "tls", "acme"), message, "write [acme] with agree_terms = true")
        return
    _check_table(config.acme, report, broken)
    if not asking and not touches(broken, ("listeners",)):
        report.at_key(("acme",), "no listener asks for certificates", "write acme = true in its [listeners.tls]")
    if asking and config.acme.challenge == "http-01" and not touches(broken, ("listeners",)):
        _check_plain_listener(config, report)
    for index in asking:
        tls = config.listeners[index].tls
        if tls is not None and not wanted_names(config, tls) and not touches(broken, ("routes",)):
            where: Path = ("listeners", index, "tls", "acme")
            report.at_key(where, "no route names a host", 'list them: acme = ["shop.example.com"]')


def _check_table(acme: Acme, report: Report, broken: frozenset[Path]) -> None:
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if missing:
        report.at_key(("acme",), f"the package {missing[0]} is not installed", _INSTALL)
    if not acme.agree_terms and not touches(broken, ("acme", "agree_terms")):
        message = "without your consent to its terms of service, the authority gives no account"
        report.at_value(("acme", "agree_terms"), message, "read them, and write agree_terms = true")


def _check_plain_listener(config: Config, report: Report) -> None:
    if all(listener.tls is not None for listener in config.listeners):
        message = "the authority asks in plain text, on port 80, and no listener is without TLS"
        report.at_key(("acme", "challenge"), message, 'add a listener, or write challenge = "tls-alpn-01"')


def wanted_names(config: Config, tls: ListenerTls) -> list[str]:
    """The hosts that a listener wants certificates for."""
    if isinstance(tls.acme, list):
        return list(dict.fromkeys(tls.acme))
    return [host for host in _hosts(config) if _is_certifiable(host)] if tls.acme else []


def uncertifiable_hosts(config: Config, tls: ListenerTls) -> list[str]:
    """The hosts of routes for which a listener would want certificates if they could be had."""
    return [host for host in _hosts(config) if not _is_certifiable(host)] if tls.acme is True else []


def _hosts(config: Config) -> list[str]:
    return list(dict.fromkeys(host for route in config.routes for host in route.host))


def _is_certifiable(host: str) -> bool:
    return not host.startswith("*.") and not is_ip(host)


def acme_settings(config: Config, base: FilePath, names: Sequence[str]) -> AcmeSettings | None:
    """What the helper process gets; None when there is nothing for it to do."""
    acme = config.acme
    if acme is None or not names:
        return None
    external = acme.external_account
    return AcmeSettings(
        directory=acme.directory,
        storage=base.absolute() / acme.storage,
        challenge=acme.challenge,
        names=tuple(names),
        email=acme.email or "",
        ca=None if acme.ca is None else base.absolute() / acme.ca,
        renew_before=acme.renew_before or 0.0,
        key_id="" if external is None else external.key_id,
        hmac_key="" if external is None else external.hmac_key,
    )
