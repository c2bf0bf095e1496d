"""What an authority's errors are called, and the certificate that answers it. Orders are seen at a real one."""

from __future__ import annotations

import hashlib
import ssl
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
import requests
from acme import errors, messages
from cryptography import x509

from fastgw.config.acme_settings import AcmeSettings
from fastgw.runtime.acme_messages import Challenge
from fastgw.runtime.acme_order import Authority, OrderError, challenge_pair, seconds, why
from fastgw.runtime.acme_store import new_key


def problem(code: str, detail: str, *parts: messages.Error) -> messages.Error:
    return messages.Error(typ=f"urn:ietf:params:acme:error:{code}", detail=detail, subproblems=parts or None)


def invalid(*found: messages.Error | None) -> errors.ValidationError:
    asked = [messages.ChallengeBody(chall=None, uri="x", status=messages.STATUS_INVALID, error=one) for one in found]
    authorization = messages.Authorization(challenges=asked)
    return errors.ValidationError([messages.AuthorizationResource(body=authorization, uri="x")])


def response(status: int, url: str = "https://ca.test/dir") -> requests.Response:
    made = requests.Response()
    made.status_code, made.url = status, url
    return made


def unreachable() -> requests.ConnectionError:
    deep = OSError(111, "Connection refused")
    return requests.ConnectionError(
        ValueError("Max retries exceeded", deep), request=requests.Request(url="https://x/")
    )


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            problem("rejectedIdentifier", "not\nthis one\x1b[2J"),
            "the authority refuses: rejectedIdentifier: not this one [2J",
        ),
        (
            problem("compound", "two", problem("dns", "no A"), problem("caa", "no")),
            "the authority refuses: compound: two; dns: no A; caa: no",
        ),
        (
            invalid(None, problem("unauthorized", "404")),
            "the authority could not see that the host is ours: unauthorized: 404",
        ),
        (errors.IssuanceError(problem("badCSR", "weak")), "the authority refuses: badCSR: weak"),
        (errors.TimeoutError(), "the authority has not answered within 5 minutes"),
        (errors.ClientError(response(404)), "what answers at https://ca.test/dir is no ACME authority: status 404"),
        (unreachable(), "the authority can't be reached at https://x/: Connection refused"),
        (KeyError("newAccount"), "the authority is not understood: 'newAccount'"),
        (errors.Error(), "the authority is not understood"),
    ],
)
def test_why_an_order_fails_is_said_in_one_line(error: Exception, said: str) -> None:
    assert why(error) == said


def test_what_an_authority_says_is_cut() -> None:
    assert len(why(problem("dns", "x" * 10_000))) == 300


@pytest.mark.parametrize(("text", "expected"), [("120", 120.0), ("", 0.0), ("soon", 0.0), ("-1", 0.0)])
def test_retry_after_in_seconds(text: str, expected: float) -> None:
    assert seconds(text) == expected


def test_retry_after_as_a_date() -> None:
    now = datetime.now(UTC)
    assert 50 < seconds(format_datetime(now + timedelta(minutes=1), usegmt=True)) <= 60
    assert seconds(format_datetime(now - timedelta(minutes=1), usegmt=True)) == 0.0
    assert seconds("Sun, 06 Nov 1994 08:49:37") == 0.0


def test_the_challenge_s_certificate_shows_the_digest_of_the_key_authorization() -> None:
    pair = challenge_pair("a.test", "token.thumb")
    made = x509.load_pem_x509_certificate(pair.cert)
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [x509.DNSName("a.test")]
    found = made.extensions.get_extension_for_oid(x509.ObjectIdentifier("1.3.6.1.5.5.7.1.31"))
    assert found.critical
    assert isinstance(found.value, x509.UnrecognizedExtension)
    assert found.value.value == b"\x04\x20" + hashlib.sha256(b"token.thumb").digest()
    assert ssl.PEM_cert_to_DER_cert(pair.cert.decode())


def show(_: tuple[Challenge, ...]) -> None:
    raise AssertionError("nothing is asked")


def test_an_authority_that_is_not_there_concerns_all_names(tmp_path: Path) -> None:
    # Nobody listens on port 1.
    settings = AcmeSettings("https://127.0.0.1:1/dir", tmp_path, "http-01", ("a.test",))
    with pytest.raises(
        OrderError, match=r"can't be reached at https://127\.0\.0\.1:1/dir: Connection refused"
    ) as found:
        Authority(settings, new_key(), show).certificate("a.test")
    assert found.value.concerns_all
