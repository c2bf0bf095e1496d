"""Which arm of a split a request goes to when not by lot alone: the one that it names, or the one that its client has.

A request may name an arm in a header or a cookie, by its upstream's name: for whoever tests, so it reaches arms
without weight, too, and leaves the client's own arm as it is. Otherwise a sticky cookie leads a client back to his arm,
unless that has no weight any more: then he draws another.
"""

from __future__ import annotations

from dataclasses import dataclass

from fastgw.http1.message import RequestHead
from fastgw.policy.sticky_cookie import StickyCookie, StickySettings


@dataclass(frozen=True, slots=True)
class ArmSettings:
    """`header` (lower-case) and `cookie` are where a request may name its arm; empty: nowhere."""

    sticky: StickySettings | None = None
    header: bytes = b""
    cookie: bytes = b""


class Arms:
    """The arms of one split. They are known by their places in `names`."""

    __slots__ = ("_cookie", "_header", "_place", "_weights", "sticky")

    def __init__(self, settings: ArmSettings, names: tuple[str, ...], weights: tuple[int, ...], scope: str) -> None:
        self._header = settings.header
        self._cookie = settings.cookie
        self._place = {name.encode(): place for place, name in enumerate(names)}
        self._weights = weights
        self.sticky = StickyCookie(settings.sticky, names, scope) if settings.sticky is not None else None

    def named(self, request: RequestHead) -> int:
        """The arm that the request asks for; -1: none that there is. The header wins."""
        for value in (
            request.header(self._header) if self._header else None,
            request.cookie(self._cookie) if self._cookie else None,
        ):
            if value is not None and value in self._place:
                return self._place[value]
        return -1

    def kept(self, token: bytes | None) -> int:
        """The arm that the client's cookie leads to; -1: none, or none with a weight."""
        place = -1 if self.sticky is None else self.sticky.place(token)
        return place if place >= 0 and self._weights[place] else -1
