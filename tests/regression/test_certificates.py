"""Defects of what is said about certificates."""

from __future__ import annotations

from pathlib import Path

import pytest
import trustme

from fastgw.config.load import load_text
from fastgw.errors import ConfigError
from tests.support.tls import Authority

CONFIG = """
[[listeners]]
address = "127.0.0.1:0"
tls = { certificates = [{ cert = "ec.pem", key = "rsa.key" }] }
[[routes]]
respond.body = "ok"
"""


def test_a_key_of_another_kind_than_its_certificate_was_called_by_an_openssl_constant(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    authority.issue("ec", "a.test")
    authority.issue("rsa", "a.test", kind=trustme.KeyType.RSA)
    with pytest.raises(ConfigError) as caught:
        load_text(CONFIG, base=tmp_path)
    (problem,) = caught.value.problems
    assert str(problem) == (
        f"config.toml:4:50: listeners[1].tls.certificates[1].key: the private key in {tmp_path}/rsa.key "
        f"does not belong to the certificate in {tmp_path}/ec.pem; name the one that was made with it"
    )
