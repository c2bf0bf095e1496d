"""Which endpoint a client's cookie names, or which arm of a split: by a token that only this gateway can make.

A token is a keyed hash of the endpoint's name (HMAC-SHA256, RFC 2104), cut to 16 bytes, in base64url (RFC 4648 §5). It
tells nothing of the address, and is the same in every worker, on every gateway with that secret, and after a reload
that lists the endpoints in another order. Whether the endpoint can be taken, and the cookie's name and attributes, are
others' matters.

What somebody with a cookie can do: come back to the endpoint that it was given for, for as long as that endpoint
and the secret last; collect the tokens of all endpoints by asking again without a cookie, and so count them and see
one leave; hand a token to others, so that many go to one endpoint, which its cap on requests has to bear. What they
can't do: make a token for an endpoint that they were never sent to, learn or test an address from a token (the secret
is to be random for that), use a token of one upstream or split in another, or gain any right: a token proves nothing
about who sends it, and must never stand for a login.
"""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64encode

# RFC 2104 §5 lets a hash be cut to half of it, and to no less than 80 bits.
_TOKEN_BYTES = 16
# Who guesses an address and a secret could tell from a token that both are right.
SECRET_BYTES_MIN = 16


def sign(name: str, secret: bytes, scope: str) -> bytes:
    """The token for one name: 22 characters. `scope` says what the name is of: tokens of others are no good there."""
    if len(secret) < SECRET_BYTES_MIN:
        raise ValueError(f"a secret needs at least {SECRET_BYTES_MIN} bytes")
    # A key for each scope, so that no scope and name are ever the same bytes as another scope and name.
    key = hmac.digest(secret, scope.encode(), "sha256")
    token = hmac.digest(key, name.encode(), "sha256")[:_TOKEN_BYTES]
    return urlsafe_b64encode(token).rstrip(b"=")


class StickyTokens:
    """The tokens of an upstream's endpoints, or of a split's arms, by their place in `names`.

    The first secret makes new tokens; those of the others are still known, so that a secret can be replaced without
    sending anybody elsewhere. Looking a token up takes no longer for one that is nearly right in any way that helps to
    guess it: it is a look into a dict by a hash that is salted in each process.
    """

    __slots__ = ("_place", "tokens")

    def __init__(self, names: tuple[str, ...], secrets: tuple[bytes, ...], scope: str) -> None:
        self.tokens = tuple([sign(name, secrets[0], scope) for name in names])
        self._place = {
            sign(name, secret, scope): place
            for secret in reversed(secrets)
            # Of two with the same name the first is meant.
            for place, name in reversed(list(enumerate(names)))
        }

    def endpoint_of(self, cookie_value: bytes) -> int | None:
        """The place of the name that the token was made for; None for what is forged, old or another scope's."""
        return self._place.get(cookie_value)
