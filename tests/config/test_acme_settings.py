from __future__ import annotations

from pathlib import Path

import pytest

from fastgw.config.acme_settings import AcmeSettings

SETTINGS = AcmeSettings("https://ca.test/dir", Path("/s"), "http-01", ("a.test",), hmac_key="c2VjcmV0")


@pytest.mark.parametrize(
    ("directory", "folder"),
    [
        ("https://acme-v02.api.letsencrypt.org/directory", "acme-v02.api.letsencrypt.org-directory"),
        ("https://127.0.0.1:14000/dir", "127.0.0.1-14000-dir"),
        ("https://CA.test/a/../../b/?x=%2e#", "ca.test-a-..-..-b-x-2e"),
        ("https://ca.test", "ca.test"),
    ],
)
def test_each_authority_has_a_folder_of_its_own(directory: str, folder: str) -> None:
    settings = AcmeSettings(directory, Path("/s"), "http-01", ())
    assert settings.folder == Path("/s") / folder


def test_a_certificate_and_its_key_are_in_one_file() -> None:
    assert SETTINGS.certificate_file("a.test") == Path("/s/ca.test-dir/a.test.pem")


def test_the_key_of_the_account_elsewhere_is_not_shown() -> None:
    assert "c2VjcmV0" not in repr(SETTINGS)
