from __future__ import annotations

import ssl

import pytest

from fastgw import errors
from fastgw.errors import Failure
from fastgw.net.tls import TlsEndpoint
from tests.fakes import Clock


def endpoint(said: list[str], clock: Clock) -> TlsEndpoint:
    return TlsEndpoint(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), "b.test", "b:443 (upstream a)", said.append, clock)


@pytest.mark.parametrize(
    ("code", "failure"),
    [
        (9, errors.UPSTREAM_TLS_EXPIRED),
        (10, errors.UPSTREAM_TLS_EXPIRED),
        (18, errors.UPSTREAM_TLS_UNTRUSTED),
        (62, errors.UPSTREAM_TLS_NAME_MISMATCH),
        (64, errors.UPSTREAM_TLS_NAME_MISMATCH),
    ],
)
def test_a_certificate_s_failure_is_told_by_what_openssl_found(code: int, failure: Failure) -> None:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_code = code
    assert endpoint([], Clock()).failed(error) is failure


def test_a_failure_is_reported_once_in_a_while_and_the_others_are_counted() -> None:
    said: list[str] = []
    clock = Clock()
    tls = endpoint(said, clock)
    for seconds in (0.0, 3.0, 6.0, 2.0):
        clock.now += seconds
        assert tls.failed(ConnectionResetError()) is errors.UPSTREAM_TLS_FAILED
    start = "TLS to b:443 (upstream a) fails: the connection was closed in the handshake"
    assert said == [start, f"{start} (2 more since the last report)"]
