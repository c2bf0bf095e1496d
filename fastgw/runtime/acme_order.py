"""One order at an ACME authority (RFC 8555), by the `acme` library: account, order, challenge, certificate."""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Callable, Iterator
from email.utils import parsedate_to_datetime
from typing import Any

import requests
from acme import challenges, client, crypto_util, errors, messages
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from josepy.errors import Error as JoseError
from josepy.jwa import ES256
from josepy.jwk import JWK, JWKEC
from josepy.util import ComparableECKey

from fastgw import __version__
from fastgw.config.acme_settings import AcmeSettings
from fastgw.runtime.acme_messages import Challenge
from fastgw.runtime.acme_store import new_key, validity_of
from fastgw.snapshot import KeyPair

# For the challenge to be looked at and the certificate to be made; Let's Encrypt takes ten seconds.
_PATIENCE = datetime.timedelta(minutes=5)
# What an authority says goes into a line on standard error.
_SAID_LENGTH_MAX = 300
# Nobody needs to know how the challenge's certificate is dated; clocks differ.
_CHALLENGE_LIVES = datetime.timedelta(days=7)
# RFC 8737 §6.1
_ACME_IDENTIFIER = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.31")
# RFC 8555 §6.5: who is told so comes again with a new one. The library does so once; a busy authority forgets more.
_NONCES_REFUSED_MAX = 4
# Of these, a name can't be at fault (RFC 8555 §6.7). It can of rateLimited, which may be about one name, and last days.
_NOT_OF_A_NAME = frozenset(
    ("accountDoesNotExist", "badNonce", "externalAccountRequired", "serverInternal", "userActionRequired")
)


class OrderError(Exception):
    """The message says why, in one line. `retry_after` is in seconds, 0 if nobody said. `concerns_all`: it has nothing
    to do with the name."""

    def __init__(self, why: str, retry_after: float = 0.0, concerns_all: bool = False) -> None:
        super().__init__(why)
        self.retry_after = retry_after
        self.concerns_all = concerns_all


@challenges.ChallengeResponse.register
class _TlsAlpn01Response(challenges.KeyAuthorizationChallengeResponse):
    typ = "tls-alpn-01"


@challenges.Challenge.register
class _TlsAlpn01(challenges.KeyAuthorizationChallenge):
    """RFC 8737; the library has let go of it."""

    response_cls = _TlsAlpn01Response
    typ = _TlsAlpn01Response.typ

    def validation(self, account_key: JWK, **_: Any) -> str:
        return self.key_authorization(account_key)


class _Network(client.ClientNetwork):
    """Keeps what the library's errors leave out, for how long the authority asks for patience; and more patient than
    the library with one that takes a nonce for used."""

    retry_after = 0.0

    def post(self, *args: Any, **kwargs: Any) -> requests.Response:
        for _ in range(_NONCES_REFUSED_MAX):
            try:
                return super().post(*args, **kwargs)
            except messages.Error as error:
                if error.code != "badNonce":
                    raise
        return super().post(*args, **kwargs)

    def _send_request(self, method: str, url: str, *args: Any, **kwargs: Any) -> requests.Response:
        response = super()._send_request(method, url, *args, **kwargs)
        self.retry_after = 0.0 if response.ok else seconds(response.headers.get("Retry-After", ""))
        return response


def seconds(text: str) -> float:
    """A Retry-After (RFC 9110 §10.2.3): seconds, or a date."""
    if text.isdecimal():
        return float(text)
    try:
        left = parsedate_to_datetime(text) - datetime.datetime.now(datetime.UTC)
    except (ValueError, TypeError):
        return 0.0
    return max(left.total_seconds(), 0.0)


class Authority:
    """An authority with our account there. `show` puts challenges in force, and raises OrderError when it can't."""

    def __init__(
        self, settings: AcmeSettings, account_key: bytes, show: Callable[[tuple[Challenge, ...]], None]
    ) -> None:
        self._settings = settings
        self._show = show
        key = serialization.load_pem_private_key(account_key, None)
        self._key = JWKEC(key=ComparableECKey(key))  # type: ignore[arg-type]
        self._network = _Network(key=self._key, alg=ES256, user_agent=f"fastgw/{__version__}")
        if settings.ca is not None:
            # requests takes a file where the library says bool.
            self._network.verify_ssl = str(settings.ca)  # type: ignore[assignment]
        self._client: client.ClientV2 | None = None

    def certificate(self, name: str) -> bytes:
        """A new key and its certificate with the chain, PEM. Raises OrderError."""
        try:
            acme = self._connected()
        except _ERRORS as error:
            self._client = None
            raise OrderError(why(error), self._network.retry_after, concerns_all=True) from None
        try:
            return self._order(acme, name)
        except _ERRORS as error:
            code = error.code if isinstance(error, messages.Error) else ""
            concerns_all = code in _NOT_OF_A_NAME or isinstance(error, requests.RequestException)
            if concerns_all:
                # The account may be gone, or the directory another by now.
                self._client = None
            raise OrderError(why(error), self._network.retry_after, concerns_all) from None

    def _connected(self) -> client.ClientV2:
        if self._client is None:
            self._network.account = None
            directory = client.ClientV2.get_directory(self._settings.directory, self._network)
            self._client = client.ClientV2(directory, self._network)
            self._log_in(self._client)
        return self._client

    def _log_in(self, acme: client.ClientV2) -> None:
        """Makes the account, or finds the one that the key has made before."""
        settings, binding = self._settings, None
        if settings.key_id:
            binding = messages.ExternalAccountBinding.from_data(
                self._key.public_key(), settings.key_id, settings.hmac_key, acme.directory
            )
        wanted = messages.NewRegistration.from_data(
            email=settings.email or None, external_account_binding=binding, terms_of_service_agreed=True
        )
        try:
            acme.new_account(wanted)
        except errors.ConflictError as known:
            self._network.account = messages.RegistrationResource(uri=known.location, body=messages.Registration())

    def _order(self, acme: client.ClientV2, name: str) -> bytes:
        key = new_key()
        order = acme.new_order(crypto_util.make_csr(key, [name]))
        deadline = datetime.datetime.now() + _PATIENCE
        asked = [self._challenge(one.body) for one in order.authorizations if one.body.status != messages.STATUS_VALID]
        if asked:
            self._show(tuple(self._answer(name, one) for one in asked))
            for one in asked:
                acme.answer_challenge(one, one.chall.response(self._key))
            order = acme.poll_authorizations(order, deadline)
        finished = acme.finalize_order(order, deadline)
        pem = key + finished.fullchain_pem.encode()
        try:
            validity_of(pem, name)
        except (ValueError, TypeError) as error:
            raise OrderError(f"what the authority has sent can't be used: {error}") from None
        return pem

    def _challenge(self, authorization: messages.Authorization) -> messages.ChallengeBody:
        wanted = self._settings.challenge
        for one in authorization.challenges:
            if one.chall.typ == wanted:
                return one
        raise OrderError(f"the authority does not ask by {wanted}")

    def _answer(self, name: str, asked: messages.ChallengeBody) -> Challenge:
        answer: str = asked.chall.key_authorization(self._key)
        if isinstance(asked.chall, challenges.HTTP01):
            return Challenge(name, path=asked.chall.path, body=answer)
        return Challenge(name, pair=challenge_pair(name, answer))


def challenge_pair(name: str, key_authorization: str) -> KeyPair:
    """The certificate that shows an authority that a name is ours (RFC 8737 §3), self-signed."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "ACME challenge")])
    now = datetime.datetime.now(datetime.UTC)
    digest = hashlib.sha256(key_authorization.encode()).digest()
    # An OCTET STRING of 32 bytes (X.690 §8.7).
    shown = x509.UnrecognizedExtension(_ACME_IDENTIFIER, bytes((4, len(digest))) + digest)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CHALLENGE_LIVES)
        .not_valid_after(now + _CHALLENGE_LIVES)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(shown, critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return KeyPair(made.public_bytes(pem), private)


# What the library lets through: its own, those of what it is built on, and what comes of JSON that it did not expect.
_ERRORS = (
    *(errors.Error, JoseError, requests.RequestException),
    *(OSError, ValueError, KeyError, TypeError, AttributeError),
)


def why(error: Exception) -> str:
    """One printable line."""
    text = "".join(char if char.isprintable() else " " for char in _text(error))
    return " ".join(text.split())[:_SAID_LENGTH_MAX]


def _text(error: Exception) -> str:
    if isinstance(error, messages.Error):
        return f"the authority refuses: {_problem(error)}"
    if isinstance(error, errors.ValidationError):
        return f"the authority could not see that the host is ours: {'; '.join(_validation_problems(error))}"
    if isinstance(error, errors.IssuanceError):
        return f"the authority refuses: {_problem(error.error)}"
    if isinstance(error, errors.TimeoutError):
        return f"the authority has not answered within {_PATIENCE.seconds // 60} minutes"
    if isinstance(error, requests.RequestException):
        where = "" if error.request is None else f" at {error.request.url!s}"
        return f"the authority can't be reached{where}: {_root(error)}"
    if isinstance(error, errors.ClientError) and error.args and isinstance(error.args[0], requests.Response):
        return f"what answers at {error.args[0].url} is no ACME authority: status {error.args[0].status_code}"
    return f"the authority is not understood: {error}" if str(error) else "the authority is not understood"


def _problem(error: messages.Error) -> str:
    """RFC 7807, with the parts that RFC 8555 §6.7.1 puts in."""
    own = ": ".join(part for part in (error.code, error.detail or error.title) if part) or str(error.typ)
    return "; ".join((own, *(_problem(part) for part in error.subproblems or ())))


def _validation_problems(error: errors.ValidationError) -> Iterator[str]:
    for failed in error.failed_authzrs:
        yield from (_problem(one.error) for one in failed.body.challenges if one.error is not None)


def _root(error: BaseException) -> str:
    """What it all began with, in the words of the system or of OpenSSL."""
    while (below := error.__cause__ or error.__context__ or _argument(error)) is not None:
        error = below
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _argument(error: BaseException) -> BaseException | None:
    """requests and urllib3 carry what they have caught as an argument."""
    reasons = (getattr(error, "reason", None), *error.args)
    return next((one for one in reasons if isinstance(one, BaseException)), None)
