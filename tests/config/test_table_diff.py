from __future__ import annotations

from pathlib import Path

import pytest

from fastgw.config.secrets import HIDDEN
from fastgw.config.table_diff import Change, Where, file_identity, table_changes
from tests.config.sources import ENVIRONMENT, load


def upstream_changes(old: str, new: str, bases: tuple[str, str] = (".", "."), secret: str = "hunter2") -> list[Change]:
    """Of the upstream `a` with these keys."""
    begin = "[upstreams.a]\n"
    endpoints = 'endpoints = ["127.0.0.1:1"]\n'
    old, new = (begin + ("" if "endpoints" in keys else endpoints) + keys + "\n" for keys in (old, new))
    before = load(old, ENVIRONMENT, Path(bases[0]))
    after = load(new, {**ENVIRONMENT, "SECRET": secret}, Path(bases[1]))
    where = Where(before.document, ("upstreams", "a"), after.document, ("upstreams", "a"))
    return list(table_changes(before.model.upstreams["a"], after.model.upstreams["a"], where))


def told(old: str, new: str) -> list[str]:
    return [f"{one.key}: {one.old} -> {one.new}" for one in upstream_changes(old, new)]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('connect_timeout = "60s"', 'connect_timeout = "1m"'),
        ('connect_timeout = "2s"', ""),
        ("retry = true", "retry = {}"),
        ("retry = true", "retry.attempts = 2"),
        ("health = false", ""),
        ("tls = true", 'tls = { min_version = "1.2" }'),
        ('endpoints = ["h:1", "h:2"]', 'endpoints = [{ address = "h:2" }, { address = "h:1", weight = 1 }]'),
        ('endpoints = ["unix:a.sock"]', 'endpoints = ["unix:./b/../a.sock"]'),
        ('retry.on = ["reset", "503"]', 'retry.on = ["503", "reset"]'),
        ('health = { path = "/", status = ["200", "204"] }', 'health = { path = "/", status = ["204", "200"] }'),
        ('panic_threshold = "10%"', 'panic_threshold = "10.0%"'),
    ],
)
def test_what_means_the_same_is_no_change(old: str, new: str) -> None:
    assert told(old, new) == []


@pytest.mark.parametrize(
    ("old", "new", "change"),
    [
        ("", 'connect_timeout = "3s"', 'connect_timeout: "2s" -> "3s"'),
        ('connect_timeout = "3s"', "", 'connect_timeout: "3s" -> "2s"'),
        ("max_requests = 1", "max_requests = 2", "max_requests: 1 -> 2"),
        ("", "health = true", "health: false -> true"),
        ("health = true", 'health = { path = "/up" }', 'health.path: None -> "/up"'),
        ('health.path = "/up"', "", 'health: { path = "/up" } -> false'),
        ("retry = true", 'retry.backoff = "50ms"', 'retry.backoff: "25ms" -> "50ms"'),
        ("", 'balance = "hash"\nhash_on = "path"', 'balance: "round-robin" -> "hash"'),
        ('retry.on = ["reset"]', 'retry.on = ["503"]', 'retry.on: ["reset"] -> ["503"]'),
        ("", "tls.verify = false", "tls: false -> { verify = false }"),
    ],
)
def test_a_change_is_told_with_its_key_as_the_file_has_it(old: str, new: str, change: str) -> None:
    assert told(old, new)[0] == change


def test_a_default_is_told_for_what_it_is() -> None:
    (change,) = upstream_changes("", 'connect_timeout = "3s"')
    assert (change.old_is_default, change.new_is_default) == (True, False)
    (change,) = upstream_changes("health = true", 'health.path = "/up"')
    # Without a default there is nothing.
    assert (change.old, change.old_is_default) == (None, False)


def test_endpoints_are_known_by_their_addresses() -> None:
    old = 'endpoints = ["h:1", { address = "h:2", weight = 3 }]'
    new = 'endpoints = [{ address = "h:2", weight = 4, backup = true }, { address = "h:3" }]'
    assert told(old, new) == [
        'endpoints: "h:1" -> None',
        'endpoints."h:2".weight: 3 -> 4',
        'endpoints."h:2".backup: false -> true',
        'endpoints: None -> { address = "h:3" }',
    ]


def test_secrets_are_hidden_and_references_shown() -> None:
    secret = "0123456789abcdef-old"
    changes = upstream_changes(
        f'sticky.secret = "{secret}"',
        'sticky.secret = ["${LONG}", "0123456789abcdef-new"]'.replace("${LONG}", "${SECRET}${SECRET}${SECRET}"),
    )
    assert [(one.old, one.new) for one in changes] == [(f'"{HIDDEN}"', f'["{HIDDEN}", "{HIDDEN}"]')]
    (change,) = upstream_changes("", f'sticky = {{ secret = "{secret}", cookie = "c" }}')
    assert change.new == f'{{ secret = "{HIDDEN}", cookie = "c" }}'
    (change,) = upstream_changes(f'sticky.secret = "{secret}"', 'sticky.secret = "0123456789abcdef-new"')
    assert (change.old, change.new, change.note) == (f'"{HIDDEN}"', f'"{HIDDEN}"', "another value")


def test_a_reference_that_brings_in_something_else_is_told_without_it() -> None:
    keys = 'health = { path = "/up", body = "${SECRET}" }'
    (change,) = upstream_changes(keys, keys, secret="other")
    assert (change.key, change.old, change.new) == ("health.body", '"${SECRET}"', '"${SECRET}"')
    assert change.note == "another value"


@pytest.mark.parametrize(
    ("name", "base", "identity"),
    [
        ("a.pem", "/etc/fastgw", "a.pem"),
        ("./tls/../a.pem", "/etc/fastgw", "a.pem"),
        ("/etc/fastgw/tls/a.pem", "/etc/fastgw", "tls/a.pem"),
        ("../a.pem", "/etc/fastgw", "/etc/a.pem"),
        ("/a.pem", "/etc/fastgw", "/a.pem"),
        ("a.pem", "/", "a.pem"),
    ],
)
def test_a_file_is_known_by_its_place_beside_the_configuration(name: str, base: str, identity: str) -> None:
    assert file_identity(name, Path(base)) == identity


def test_configurations_of_two_directories_are_compared_as_if_they_stood_in_one() -> None:
    socket = 'endpoints = ["unix:app.sock"]'
    assert upstream_changes(socket, socket, ("/etc/old", "/etc/new")) == []
    assert upstream_changes('endpoints = ["unix:/run/a"]', 'endpoints = ["unix:/run/a"]', ("/a", "/b")) == []
