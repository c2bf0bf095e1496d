"""Cookies that bring a client back, made into what the snapshot has."""

from __future__ import annotations

from fastgw.config.sticky import SplitChoice, Sticky
from fastgw.policy.arms import ArmSettings
from fastgw.policy.sticky_cookie import StickySettings


def sticky_settings(sticky: Sticky, default_cookie: str) -> StickySettings:
    """`default_cookie` is its name if it has none of its own."""
    # RFC 6265 §5.2: of these, Path alone decides where it is sent; without Domain, to this very host.
    attributes = f"; Path=/; HttpOnly; SameSite={sticky.same_site}"
    if sticky.secure:
        attributes += "; Secure"
    if sticky.max_age is not None:
        attributes += f"; Max-Age={max(1, int(sticky.max_age))}"
    name = sticky.cookie or default_cookie
    return StickySettings(name.encode(), tuple(sticky.secret), attributes.encode())


def arm_settings(choice: SplitChoice, route_name: str) -> ArmSettings:
    return ArmSettings(
        sticky_settings(choice.sticky, f"fastgw_split_{route_name}") if choice.sticky is not None else None,
        (choice.header or "").lower().encode(),
        (choice.cookie or "").encode(),
    )
