from __future__ import annotations

import sys
from pathlib import Path

import pytest
import trustme

from fastgw.config.load import LoadedConfig
from tests.config.sources import load, problems

ACME = "[acme]\nagree_terms = true\n"
PLAIN = '[[listeners]]\naddress = "127.0.0.1:0"\n'
SECURE = '[[listeners]]\naddress = "127.0.0.1:443"\ntls = { acme = true }\n'


def routes(*hosts: str) -> str:
    return "".join(f'[[routes]]\nhost = "{host}"\nrespond.body = "ok"\n' for host in hosts)


def names(loaded: LoadedConfig) -> tuple[str, ...]:
    assert loaded.acme is not None
    return loaded.acme.names


def test_the_exact_hosts_of_all_routes_get_certificates(tmp_path: Path) -> None:
    loaded = load(
        ACME
        + PLAIN
        + SECURE
        + routes("b.test", "A.test")
        + routes("b.test").replace("respond", 'path = "/x"\nrespond'),
        base=tmp_path,
    )
    assert names(loaded) == ("b.test", "a.test")
    assert loaded.warnings == ()


def test_or_those_that_are_listed_by_any_listener(tmp_path: Path) -> None:
    first = SECURE.replace("true", '["c.test", "b.test"]')
    second = SECURE.replace("443", "444").replace("true", '["b.test", "d.test", "d.test"]')
    loaded = load(ACME + PLAIN + first + second + routes("*.a.test"), base=tmp_path)
    assert names(loaded) == ("c.test", "b.test", "d.test")
    assert loaded.warnings == ()


def test_what_can_t_be_had_is_said_unless_a_file_is_for_it(tmp_path: Path) -> None:
    text = ACME + PLAIN + SECURE + routes("a.test", "*.b.test", "*.c.test", "192.0.2.7")
    trustme.CA().issue_cert("*.b.test").private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "b.pem"))
    text = text.replace("acme = true }", 'acme = true, certificates = [{ cert = "b.pem" }] }')
    loaded = load(text, base=tmp_path)
    assert names(loaded) == ("a.test",)
    assert loaded.warnings == (
        "*.c.test has no certificate: [acme] gets none for wildcards and IP addresses",
        "192.0.2.7 has no certificate: [acme] gets none for wildcards and IP addresses",
    )


def test_a_host_that_a_file_is_for_needs_none(tmp_path: Path) -> None:
    trustme.CA().issue_cert("a.test", "*.b.test").private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "a.pem"))
    secure = SECURE.replace("acme = true", 'acme = true, certificates = [{ cert = "a.pem" }]')
    loaded = load(ACME + PLAIN + secure + routes("a.test", "x.b.test", "c.test"), base=tmp_path)
    assert names(loaded) == ("c.test",)
    assert load(ACME + PLAIN + secure + routes("a.test"), base=tmp_path).acme is None


def test_their_files_are_watched_before_they_are_there(tmp_path: Path) -> None:
    loaded = load(ACME + PLAIN + SECURE + routes("a.test"), base=tmp_path)
    assert loaded.tls_paths == (tmp_path / "acme" / "acme-v02.api.letsencrypt.org-directory" / "a.test.pem",)
    # Nothing is written by who only reads the configuration.
    assert list(tmp_path.iterdir()) == []


def test_in_tls_nobody_need_listen_in_plain_text(tmp_path: Path) -> None:
    text = ACME + 'challenge = "tls-alpn-01"\n' + SECURE + routes("a.test")
    assert problems(text, base=tmp_path) == []


def test_what_the_helper_process_gets(tmp_path: Path) -> None:
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    text = ACME + 'email = "ops@a.test"\nrenew_before = "30d"\nca = "ca.pem"\nstorage = "certs"\n'
    text += 'directory = "https://ca.test/dir"\nexternal_account = { key_id = "kid", hmac_key = "aGVsbG8=" }\n'
    settings = load(text + PLAIN + SECURE + routes("a.test"), base=tmp_path).acme
    assert settings is not None
    assert (settings.directory, settings.challenge) == ("https://ca.test/dir", "http-01")
    assert (settings.storage, settings.ca) == (tmp_path / "certs", tmp_path / "ca.pem")
    assert (settings.email, settings.renew_before) == ("ops@a.test", 30 * 86400)
    assert (settings.key_id, settings.hmac_key) == ("kid", "aGVsbG8")


@pytest.mark.parametrize("package", ["acme", "josepy", "cryptography"])
def test_a_package_that_is_missing_is_said_with_the_command_that_installs_it(
    package: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    # Names for which nothing is remembered.
    text = ACME + PLAIN + SECURE + routes(f"without-{package}.test")
    expected = f"acme: the package {package} is not installed; install it: pip install 'fastgw[acme]'"
    assert problems(text, base=tmp_path) == [f"config.toml:1:1: {expected}"]
    assert problems(PLAIN + routes("a.test"), base=tmp_path) == []
