from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastgw.config.differences import EntityChange, differences
from fastgw.config.load import LoadedConfig, load_config
from fastgw.errors import ConfigError
from tests.config.sources import LISTENER, ROUTE, UPSTREAM, load
from tests.support.tls import Authority

HEAD = LISTENER + UPSTREAM + ROUTE
EXAMPLE = (Path(__file__).parents[2] / "config.toml").read_text(encoding="utf-8")


def told(old: LoadedConfig, new: LoadedConfig) -> dict[str, list[str]]:
    """Each entity with what becomes of it, and its keys."""
    return {
        f"{entity.kind} {entity.name} {entity.change}": [f"{one.key}: {one.old} -> {one.new}" for one in entity.keys]
        for entity in differences(old, new).entities
    }


def texts(old: str, new: str) -> dict[str, list[str]]:
    return told(load(old), load(new))


def test_a_configuration_does_not_differ_from_itself() -> None:
    assert texts(EXAMPLE, EXAMPLE) == {}


def variants() -> Iterator[str]:
    """The example with one line taken out, or with another number or flag in it."""
    lines = EXAMPLE.splitlines()
    for number, line in enumerate(lines):
        others = [] if line.startswith("#") else [""]
        # What is only written down as a comment counts, too; weights say nothing but their ratio.
        bare = line.removeprefix("# ")
        if re.match(r"[a-z_.]+ = ", bare):
            others.append(re.sub(r"(\d+)", lambda found: str(int(found[1]) + 1), bare, count=1))
            others.append(bare.replace("true", "_").replace("false", "true").replace("_", "false"))
        for other in others:
            yield "\n".join([*lines[:number], other, *lines[number + 1 :], ""])


def compiled(loaded: LoadedConfig) -> list[object]:
    snapshot = loaded.snapshot
    names = [field.name for field in dataclasses.fields(snapshot) if field.name != "router"]
    return [*(getattr(snapshot, name) for name in names), snapshot.router.rules, loaded.tracing]


def test_differences_are_told_for_each_line_of_the_example_that_changes_what_is_compiled() -> None:
    example, tried = load(EXAMPLE), 0
    for text in variants():
        try:
            other = load(text)
        except ConfigError:
            continue
        tried += text != EXAMPLE
        is_same = compiled(example) == compiled(other)
        assert bool(differences(example, other).entities) is not is_same, text
        assert bool(differences(other, example).entities) is not is_same, text
    assert tried > 100


def test_comments_tests_and_written_defaults_make_no_difference() -> None:
    new = (
        '# x\n[server]\ndrain_timeout = "30s"\n' + HEAD + '[[tests]]\nrequest = "GET http://h/"\nexpect.status = 404\n'
    )
    assert texts(HEAD, new + "[defaults]\n[access_log]\n") == {}


def test_settings_of_the_gateway_and_its_log_are_told() -> None:
    new = '[server]\nworkers = 2\ntrusted_proxies = ["10.0.0.0/8"]\n[access_log]\nformat = "combined"\n' + HEAD
    assert texts(HEAD, new) == {
        "server  changed": ['workers: "auto" -> 2', 'trusted_proxies: [] -> ["10.0.0.0/8"]'],
        "access_log  changed": ['format: "json" -> "combined"'],
    }


def test_upstreams_and_routes_that_come_and_go_are_told_with_what_the_file_says() -> None:
    more = '[upstreams.b]\nendpoints = ["h:1"]\nretry = true\n[[routes]]\nname = "n"\npath = "/n"\nupstream = "b"\n'
    assert texts(HEAD, HEAD + more) == {
        "upstreams b added": ['endpoints: None -> ["h:1"]', "retry: None -> true"],
        "routes n added": ['name: None -> "n"', 'path: None -> "/n"', 'upstream: None -> "b"'],
    }
    removed = texts(HEAD + more, HEAD)
    assert list(removed) == ["upstreams b removed", "routes n removed"]
    assert removed["routes n removed"][1] == 'path: "/n" -> None'


def test_a_changed_endpoint_is_told() -> None:
    new = HEAD.replace('"127.0.0.1:1"', '"127.0.0.1:2"')
    assert texts(HEAD, new) == {
        "upstreams a changed": ['endpoints: "127.0.0.1:1" -> None', 'endpoints: None -> "127.0.0.1:2"']
    }


def test_listeners_are_known_by_their_names_or_else_by_their_addresses() -> None:
    old = '[[listeners]]\naddress = "127.0.0.1:1"\n[[listeners]]\nname = "x"\naddress = "127.0.0.1:2"\n'
    new = (
        '[[listeners]]\nname = "x"\naddress = "127.0.0.1:3"\nlimits.header_count = 5\n'
        '[[listeners]]\nname = "p"\naddress = "127.0.0.1:1"\n[[listeners]]\naddress = "127.0.0.1:4"\n'
    )
    rest = UPSTREAM + ROUTE
    assert texts(old + rest, new + rest) == {
        "listeners x changed": ['address: "127.0.0.1:2" -> "127.0.0.1:3"', "limits.header_count: 100 -> 5"],
        "listeners p changed": ['name: "listener-1" -> "p"'],
        "listeners listener-3 added": ['address: None -> "127.0.0.1:4"'],
    }
    assert list(texts(new + rest, old + rest))[-1] == "listeners listener-3 removed"


def test_a_changed_default_is_told_once_with_the_number_of_routes() -> None:
    more = '[[routes]]\npath = "/b"\nupstream = "a"\n'
    (entity,) = differences(load(HEAD + more), load('[defaults]\ntimeout = "5s"\n' + HEAD + more)).entities
    assert (entity.kind, entity.change, len(entity.keys)) == ("defaults", "changed", 1)
    assert (entity.keys[0].key, entity.keys[0].new, entity.keys[0].note) == ("timeout", '"5s"', "2 routes")


def test_routes_that_are_called_otherwise_are_known() -> None:
    new = LISTENER + UPSTREAM + '[[routes]]\npath = "/first"\nupstream = "a"\n' + ROUTE
    found = differences(load(HEAD), load(new))
    assert found.renamed == {"route-2": "route-1"}


def test_a_new_order_is_told_with_its_route() -> None:
    one = '[[routes]]\nname = "x"\nmatch.headers = { A = "1" }\nupstream = "a"\n'
    other = '[[routes]]\nname = "y"\nmatch.headers = { B = "1" }\nupstream = "a"\n'
    begin = LISTENER + UPSTREAM
    assert texts(begin + one + other, begin + other + one) == {"routes y changed": ['order: after "x" -> before "x"']}


# Files.


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Two directories, each with a configuration of its own, and files of TLS by the same names."""
    folders = tmp_path / "old", tmp_path / "new"
    for folder in folders:
        folder.mkdir()
        Authority(folder).issue("shop", "shop.test")
        (folder / "config.toml").write_text(
            '[[listeners]]\nname = "s"\naddress = "127.0.0.1:1"\ntls.client_ca = "ca.pem"\n'
            'tls.certificates = [{ cert = "shop.pem", key = "shop.key" }]\n'
            '[upstreams.a]\nendpoints = ["h:1"]\ntls = { ca = "ca.pem" }\n' + ROUTE,
            encoding="utf-8",
        )
    return folders


def in_folders(old: Path, new: Path) -> tuple[EntityChange, ...]:
    return differences(load_config(old / "config.toml"), load_config(new / "config.toml")).entities


def test_files_with_another_content_are_told(folders: tuple[Path, Path]) -> None:
    listener, certificate, upstream = in_folders(*folders)
    assert [(one.key, one.note) for one in listener.keys] == [("tls.client_ca", "the file's content differs")]
    assert (certificate.kind, certificate.name, certificate.change) == ("certificates", "shop.pem", "changed")
    assert [one.key for one in certificate.keys] == ["sha256"]
    assert [(one.key, one.old) for one in upstream.keys] == [("tls.ca", '"ca.pem"')]


def test_the_same_files_elsewhere_make_no_difference(folders: tuple[Path, Path]) -> None:
    for name in ("ca.pem", "shop.pem", "shop.key"):
        (folders[1] / name).write_bytes((folders[0] / name).read_bytes())
    assert in_folders(*folders) == ()


def test_a_certificate_is_told_with_its_names_and_its_end(folders: tuple[Path, Path]) -> None:
    text = (folders[1] / "config.toml").read_text(encoding="utf-8")
    for name in ("ca.pem", "shop.pem", "shop.key"):
        (folders[1] / name).write_bytes((folders[0] / name).read_bytes())
    Authority(folders[1] / "..").issue("more", "b.test", "c.test")
    more = ', { cert = "../more.pem", key = "../more.key" }]'
    (folders[1] / "config.toml").write_text(text.replace(" }]", " }" + more), encoding="utf-8")
    listener, certificate = in_folders(*folders)
    assert [one.key for one in listener.keys] == ["tls.certificates"]
    assert (certificate.name.rpartition("/")[2], certificate.change) == ("more.pem", "added")
    facts = {one.key: one.new for one in certificate.keys}
    assert facts["names"] == "b.test, c.test"
    assert set(facts) == {"names", "expires", "sha256"}
    assert [entity.change for entity in in_folders(*reversed(folders))] == ["changed", "removed"]
