"""Orders at a real ACME authority, without a gateway: what can become of them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fastgw.config.acme_settings import AcmeSettings
from fastgw.runtime.acme_messages import Challenge
from fastgw.runtime.acme_order import Authority, OrderError
from fastgw.runtime.acme_store import new_key, validity_of
from tests.support.acme import Pebble, pebble
from tests.support.client import ConnectionEndedError
from tests.support.gateway import free_port
from tests.support.played import PlayedBackend


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


class Site:
    """Port 80 of all names: answers what is shown, and counts how often there was something to show."""

    def __init__(self) -> None:
        self._backend = PlayedBackend()
        self._answers: dict[bytes, bytes] = {}
        self._ended = False
        self.orders = 0
        self.port = int(self._backend.address.rpartition(":")[2])
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while not self._ended:
            try:
                connection = self._backend.accept(0.1)
                path = connection.read_request().line.split()[1]
                connection.answer(self._answers.get(path, b"nothing"))
            except (TimeoutError, ConnectionEndedError):
                continue

    def show(self, challenges: tuple[Challenge, ...]) -> None:
        self.orders += 1
        self._answers = {one.path.encode(): one.body.encode() for one in challenges}

    def show_nothing(self, _: tuple[Challenge, ...]) -> None:
        self.orders += 1

    def close(self) -> None:
        self._ended = True
        self._thread.join()
        self._backend.close()


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    yield made
    made.close()


def settings_of(authority: Pebble, tmp_path: Path, directory: str = "", challenge: str = "http-01") -> AcmeSettings:
    return AcmeSettings(directory or authority.directory, tmp_path / "acme", challenge, ("a.test",), ca=authority.ca)


@contextmanager
def refused(*said: str, concerns_all: bool) -> Iterator[None]:
    with pytest.raises(OrderError) as found:
        yield
    assert all(part in str(found.value) for part in said), str(found.value)
    assert found.value.concerns_all == concerns_all


def test_a_second_order_uses_what_the_first_has_shown_and_one_account(site: Site, tmp_path: Path) -> None:
    reuse = {"PEBBLE_AUTHZREUSE": "100"}
    with pebble(tmp_path, site.port, free_port(), environment=reuse) as authority:
        settings, key = settings_of(authority, tmp_path), new_key()
        first, again = Authority(settings, key, site.show), Authority(settings, key, site.show)
        pems = [first.certificate("a.test"), first.certificate("a.test"), again.certificate("a.test")]
        assert site.orders == 1
        for pem in pems:
            validity_of(pem, "a.test")
        # Each with a key of its own, and with its chain.
        assert len({pem.partition(b"-----BEGIN CERTIFICATE-----")[0] for pem in pems}) == 3
        assert {pem.count(b"-----BEGIN CERTIFICATE-----") for pem in pems} == {2}
        said = (tmp_path / "pebble" / "output").read_text()
        assert said.count("There are now 1 accounts") == 1
        assert "There are now 2 accounts" not in said


def test_a_host_that_leads_elsewhere_is_that_host_s_trouble(site: Site, tmp_path: Path) -> None:
    with pebble(tmp_path, site.port, free_port()) as authority:
        made = Authority(settings_of(authority, tmp_path), new_key(), site.show_nothing)
        with refused("could not see that the host is ours: unauthorized: ", concerns_all=False):
            made.certificate("a.test")
        made = Authority(settings_of(authority, tmp_path, challenge="tls-alpn-01"), new_key(), site.show)
        with refused("could not see that the host is ours: unauthorized: Failed to connect", concerns_all=False):
            made.certificate("a.test")


def test_a_name_that_the_authority_does_not_like_is_that_name_s_trouble(site: Site, tmp_path: Path) -> None:
    with pebble(tmp_path, site.port, free_port(), {"domainBlocklist": ["blocked.test"]}) as authority:
        made = Authority(settings_of(authority, tmp_path), new_key(), site.show)
        with refused("the authority refuses: rejectedIdentifier: ", concerns_all=False):
            made.certificate("blocked.test")
        # A name's trouble is no reason to ask for directory and account again.
        made.certificate("a.test")


def test_what_is_no_directory_and_no_account_is_all_names_trouble(site: Site, tmp_path: Path) -> None:
    more = {"externalAccountBindingRequired": True, "externalAccountMACKeys": {"kid": "c2VjcmV0c2VjcmV0c2VjcmV0"}}
    with pebble(tmp_path, site.port, free_port(), more) as authority:
        nowhere = authority.directory.replace("/dir", "/nowhere")
        with refused(f"what answers at {nowhere} is no ACME authority: status 404", concerns_all=True):
            Authority(settings_of(authority, tmp_path, nowhere), new_key(), site.show).certificate("a.test")
        other = f"{authority.management}/cert-status-by-serial/1"
        with refused("is no ACME authority: status 404", concerns_all=True):
            Authority(settings_of(authority, tmp_path, other), new_key(), site.show).certificate("a.test")
        with refused("the authority refuses: externalAccountRequired: ", concerns_all=True):
            Authority(settings_of(authority, tmp_path), new_key(), site.show).certificate("a.test")
        assert site.orders == 0


def test_whose_own_certificate_is_signed_by_nobody_we_trust_is_not_told_anything(site: Site, tmp_path: Path) -> None:
    with pebble(tmp_path, site.port, free_port()) as authority:
        settings = AcmeSettings(authority.directory, tmp_path / "acme", "http-01", ("a.test",))
        with refused("can't be reached", "certificate verify failed", concerns_all=True):
            Authority(settings, new_key(), site.show).certificate("a.test")


def test_a_nonce_that_is_refused_is_no_failure(site: Site, tmp_path: Path) -> None:
    # The library alone would get through one order of five.
    refusing = {"PEBBLE_WFE_NONCEREJECT": "35"}
    with pebble(tmp_path, site.port, free_port(), environment=refusing) as authority:
        made = Authority(settings_of(authority, tmp_path), new_key(), site.show)
        validity_of(made.certificate("a.test"), "a.test")
