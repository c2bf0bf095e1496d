"""What a route matches on and builds from: hosts, paths, methods, conditions and templates, in normal form."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote

from fastgw.config.problems import Wrong, did_you_mean, kind, quoted, toml_text
from fastgw.http1.target import normalize_path, parse_host

HOST_HINT = 'write it like "shop.example.com" or "*.example.com"'
PATH_HINT = 'write it like "/products/{id}" or "/static/*"'
TEMPLATE_HINT = 'write it like "/v2/items/{id}"'
REDIRECT_HINT = 'write it like "https://shop.example.com/items/{id}" or "/items/{id}"'
CONDITION_HINT = 'write a value, "~regex", "present" or "absent"'

# What llhttp knows of RFC 9110's and the IANA registry's methods; a request with another is answered 501.
METHODS = (
    "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "QUERY", "PURGE", "ACL", "BIND", "CHECKOUT",
    "COPY", "LINK", "LOCK", "M-SEARCH", "MERGE", "MKACTIVITY", "MKCALENDAR", "MKCOL", "MOVE", "NOTIFY", "PROPFIND",
    "PROPPATCH", "REBIND", "REPORT", "SEARCH", "SOURCE", "SUBSCRIBE", "UNBIND", "UNLINK", "UNLOCK", "UNSUBSCRIBE",
)  # fmt: skip

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_PARAMETER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_-]*)(\*?)\}")
# RFC 3986 §3.3: a segment's characters; the template of a redirect may hold any of a URI's.
_SEGMENT = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@%-]*")
_URI = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@%/?#\[\]-]*")


@dataclass(frozen=True, slots=True)
class PathPattern:
    """`pattern` is the normal form that the router takes, `literal` its part before any parameter or `*`."""

    pattern: bytes
    literal: bytes
    parameters: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Template:
    """Literals and parameter names in turn, a literal at both ends."""

    literals: tuple[bytes, ...]
    names: tuple[str, ...]

    def __bytes__(self) -> bytes:
        parts = [self.literals[0]]
        for name, literal in zip(self.names, self.literals[1:], strict=True):
            parts += [b"{", name.encode(), b"}", literal]
        return b"".join(parts)


@dataclass(frozen=True, slots=True)
class ValueTest:
    """What a header, query parameter or cookie must be: `op` "equals", "regex", "present" or "absent"."""

    op: Literal["equals", "regex", "present", "absent"]
    value: str = ""


def host_pattern(value: object) -> str:
    """A host, or "*." and one, in lower case and without its final dot."""
    text = _text(value, "a host", HOST_HINT)
    if text == "*":
        raise Wrong('"*" is no host', "leave host out to match any", "leave host out to match any")
    rest = text.removeprefix("*.")
    if "*" in rest:
        raise Wrong('{value}: a "*" can only stand for the first labels', HOST_HINT, HOST_HINT)
    return text[: len(text) - len(rest)] + _host_name(rest, allow_port=False)


def authority(value: object) -> str:
    """A host, with a port or without one, as the Host header carries it."""
    return _host_name(_text(value, "a host", 'write it like "products.internal"'), allow_port=True)


def _host_name(text: str, allow_port: bool) -> str:
    if not text.isascii():
        try:
            meant = f"write {toml_text(text.encode('idna').decode())}"
        except UnicodeError:
            meant = HOST_HINT
        raise Wrong("{value} must be in its ASCII form", meant, HOST_HINT)
    if "://" in text or "/" in text:
        meant = (text.split("://", 1)[-1].split("/", 1)[0]) or "shop.example.com"
        raise Wrong("{value} is not a host", f"write {toml_text(meant)}", HOST_HINT)
    name = parse_host(text.encode())
    if name is None or b".." in name or name.startswith(b"."):
        raise Wrong("{value} is not a host", HOST_HINT, HOST_HINT)
    port = re.search(r":[0-9]*$", text)
    if port is None:
        return name.decode()
    if allow_port and port.group() != ":":
        return name.decode() + port.group()
    raise Wrong("{value}: requests are matched without their port", f"write {toml_text(name.decode())}", HOST_HINT)


def path_pattern(value: object) -> PathPattern:
    """A path with `{name}` for one segment and, last, `{name*}` or `*` for the rest."""
    text = _path_text(value, PATH_HINT)
    segments = text.split("/")[1:]
    last = len(segments) - 1
    names: list[str] = []
    parts: list[bytes] = []
    for number, segment in enumerate(segments):
        parameter = _PARAMETER.fullmatch(segment)
        if parameter is None and segment != "*":
            parts.append(_literal_segment(segment, text, number == last))
            continue
        if number != last and segment.endswith(("*", "*}")):
            raise Wrong(
                "{value}: only the last segment can stand for the rest", 'use "{name}" for one segment', PATH_HINT
            )
        if parameter is not None:
            if parameter.group(1) in names:
                raise Wrong("{value} has two parameters of one name", "give each its own", "give each its own")
            names.append(parameter.group(1))
        parts.append(segment.encode())
    first = next((number for number, part in enumerate(parts) if part[:1] in (b"{", b"*")), len(parts))
    literal = b"/" + b"/".join(parts[:first]) + (b"/" if 0 < first < len(parts) else b"")
    return PathPattern(b"/" + b"/".join(parts), literal, tuple(names))


def _literal_segment(segment: str, text: str, is_last: bool) -> bytes:
    if "{" in segment or "}" in segment:
        raise Wrong("{value}: a parameter is a whole segment between its braces", PATH_HINT, PATH_HINT)
    if "*" in segment:
        star = segment.rstrip("*")
        meant = f'write "{text[: text.index(segment)]}{star}/*"' if is_last and star and "*" not in star else PATH_HINT
        raise Wrong('{value}: a "*" must be a whole segment', meant, PATH_HINT)
    return _normal_segment(segment, is_last)


def _normal_segment(segment: str, is_last: bool) -> bytes:
    if segment in (".", "..") or (not segment and not is_last):
        raise Wrong(
            "{value} can never match: requests are matched with dot and empty segments resolved",
            "write the path without them",
            "write the path without them",
        )
    encoded = _encoded(segment, _SEGMENT)
    normal = normalize_path(b"/" + encoded)
    if normal is None or b"/" in normal[1:] or (encoded and normal == b"/"):
        raise Wrong("{value} is not a valid path", PATH_HINT, PATH_HINT)
    return normal[1:]


def path_template(value: object) -> Template:
    """A path built from captured segments: `{name}` may stand anywhere in it."""
    text = _path_text(value, TEMPLATE_HINT)
    if "*" in text:
        hint = 'write path = "/old/{rest*}" and name it here: "/new/{rest}"'
        raise Wrong('{value}: a "*" stands for nothing here', hint, hint)
    template = _template(text, _SEGMENT)
    plain = _PARAMETER.sub("x", text).split("/")[1:]
    for number, segment in enumerate(plain, 1):
        _normal_segment(segment, number == len(plain))
    return template


def path_prefix(value: object) -> bytes:
    """A literal path, without its final slash."""
    text = _path_text(value, 'write it like "/api"')
    if "{" in text or "*" in text:
        raise Wrong("{value}: a prefix is literal", 'write it like "/api", or use rewrite.path', 'write it like "/api"')
    if not text.strip("/"):
        raise Wrong("{value} takes nothing off", "leave strip_prefix out", "leave strip_prefix out")
    segments = text.removesuffix("/").split("/")[1:]
    return b"".join(b"/" + _normal_segment(segment, False) for segment in segments)


def redirect_target(value: object) -> Template:
    """A URL or an absolute path, built from captured segments."""
    text = _text(value, "a URL or a path", REDIRECT_HINT)
    if not re.match(r"https?://[^/?#]|/", text):
        meant = f"write {toml_text('https://' + text)}" if re.match(r"[a-z0-9-]+\.[a-z]", text) else REDIRECT_HINT
        raise Wrong('{value} must begin with "http://", "https://" or "/"', meant, REDIRECT_HINT)
    return _template(text, _URI)


def _template(text: str, allowed: re.Pattern[str]) -> Template:
    pieces = re.split(r"(\{[^{}]*\})", text)
    names = []
    for piece in pieces[1::2]:
        found = _PARAMETER.fullmatch(piece)
        if found is None or found.group(2):
            meant = f'write "{{{found.group(1)}}}"' if found else TEMPLATE_HINT
            raise Wrong("{value}: braces hold the name of one of the path's parameters", meant, TEMPLATE_HINT)
        names.append(found.group(1))
    segments = [re.split(r"(/)", piece) if allowed is _SEGMENT else [piece] for piece in pieces[::2]]
    literals = [b"".join(b"/" if part == "/" else _encoded(part, allowed) for part in parts) for parts in segments]
    return Template(tuple(literals), tuple(names))


def _path_text(value: object, hint: str) -> str:
    text = _text(value, "a path", hint)
    if not text.startswith("/"):
        meant = f"write {toml_text('/' + text)}" if "://" not in text else hint
        raise Wrong('{value} must begin with "/"', meant, hint)
    for mark, part in (
        ("?", "query is matched by match.query, and passes as it came"),
        ("#", "fragment is never sent"),
    ):
        if mark in text:
            raise Wrong(f'{{value}}: a path has no "{mark}"', f"the {part}", hint)
    return text


def _encoded(text: str, allowed: re.Pattern[str]) -> bytes:
    """Non-ASCII characters as UTF-8 in percent-encoding (RFC 3987 §3.1), which is how they are sent."""
    encoded = "".join(char if char.isascii() else quote(char) for char in text)
    if allowed.fullmatch(encoded) is None or re.search(r"%(?![0-9A-Fa-f]{2})", encoded):
        bad = next((char for char in encoded if allowed.fullmatch(char) is None), "%")
        shown = toml_text(bad) if bad.isprintable() else f"U+{ord(bad):04X}"
        meant = f'write "%{ord(bad):02X}" for {shown}'
        raise Wrong("{value} holds a character that can't stand there", meant, "percent-encode it")
    return encoded.encode()


def method(value: object) -> str:
    """A method that a request can have here."""
    text = _text(value, "a method", 'write it like "GET"')
    if text in METHODS:
        return text
    if _TOKEN.fullmatch(text) is None:
        raise Wrong("{value} is not a method", 'write it like "GET"', 'write it like "GET"')
    if text == "CONNECT":
        raise Wrong("CONNECT is always refused: a gateway is no forward proxy", "remove it", "remove it")
    if text.upper() in METHODS:
        raise Wrong("{value}: methods are upper-case", f'write "{text.upper()}"', "write it in upper case")
    reason = "{value} is unknown to the HTTP parser, which answers it with 501"
    raise Wrong(reason, did_you_mean(text, METHODS) or f"known are {', '.join(METHODS)}", "write a known one")


def condition(value: object) -> ValueTest:
    """What follows `name =` in match.headers, match.query and match.cookies."""
    text = _text(value, "a string", CONDITION_HINT)
    if text == "present":
        return ValueTest("present")
    if text == "absent":
        return ValueTest("absent")
    if not text.startswith("~"):
        return ValueTest("equals", text)
    try:
        with warnings.catch_warnings():
            # What a later Python will read differently.
            warnings.simplefilter("error")
            re.compile(text[1:].encode())
    except (re.error, OverflowError, Warning) as error:
        raise Wrong("{value} is not a regular expression", str(error), CONDITION_HINT) from None
    return ValueTest("regex", text[1:])


def token(value: object) -> str:
    """A header's or a cookie's name (RFC 9110 §5.6.2)."""
    text = _text(value, "a name", "")
    if _TOKEN.fullmatch(text) is None:
        raise Wrong("{value} is not a valid name", "use letters, digits and any of !#$%&'*+-.^_`|~")
    return text


def parameter_name(value: object) -> str:
    """A query parameter's name."""
    text = _text(value, "a name", "")
    if not text:
        raise Wrong("{value} is not a name", "name the query parameter")
    return text


def one_of(names: tuple[str, ...], value: object) -> str:
    """One of a few words."""
    if isinstance(value, str) and value in names:
        return value
    hint = f"write {quoted(names)}"
    if not isinstance(value, str):
        raise Wrong(f"must be a string, not {kind(value)}", hint, hint)
    raise Wrong("{value} is not known here", did_you_mean(value, names) or hint, hint)


def _text(value: object, what: str, hint: str) -> str:
    if not isinstance(value, str):
        raise Wrong(f"must be {what}, not {kind(value)}", hint, hint)
    return value
