from __future__ import annotations

import os
import pickle
from dataclasses import fields, replace
from ipaddress import ip_network
from math import inf
from pathlib import Path

import pytest

from fastgw import snapshot
from fastgw.config import access_log, schema
from fastgw.config.load import load_text
from fastgw.policy.log_rule import LogRule
from fastgw.policy.mirror import MirrorSettings
from fastgw.policy.redaction import RedactionSettings
from fastgw.policy.retry import SLOW, HedgeSettings
from fastgw.policy.router import Router
from fastgw.snapshot import Address, HeaderEdits, LocalReply, PathTemplate, Route, SyslogTarget
from tests.config.sources import load


def route(text: str) -> Route:
    return load(f"[[routes]]\n{text}").snapshot.routes[0]


def edits(text: str) -> HeaderEdits:
    found = route(f'upstream = "a"\n{text}').request_edits
    assert found is not None
    return found


def reply(text: str) -> LocalReply:
    found = route(text).reply
    assert found is not None
    return found


def test_limits_have_the_same_defaults_in_the_language_as_in_the_snapshot() -> None:
    assert schema.Limits().model_dump() == {
        field.name: getattr(snapshot.Limits(), field.name) for field in fields(snapshot.Limits)
    }


def test_upstreams_have_the_same_defaults_in_the_language_as_in_the_snapshot() -> None:
    assert load("").snapshot.upstreams["a"] == snapshot.Upstream(
        "a", (snapshot.Endpoint("127.0.0.1:1", Address("127.0.0.1", 1)),)
    )


def test_listeners_have_the_same_defaults_in_the_language_as_in_the_snapshot() -> None:
    assert load("").snapshot.listeners == (snapshot.Listener("listener-1", Address("127.0.0.1", 0)),)


def test_the_server_has_the_same_defaults_in_the_language_as_in_the_snapshot() -> None:
    compiled = load("").snapshot
    defaults = {field.name: field.default for field in fields(snapshot.Snapshot)}
    assert compiled.drain_timeout == defaults["drain_timeout"]
    assert compiled.trusted_proxies == defaults["trusted_proxies"]
    assert compiled.trusts_unix == defaults["trusts_unix"]


def test_a_snapshot_pickles() -> None:
    compiled = load("").snapshot
    assert pickle.loads(pickle.dumps(compiled)).routes == compiled.routes


def test_workers_are_one_per_usable_core_unless_they_are_counted() -> None:
    assert load("").snapshot.workers == len(os.sched_getaffinity(0))
    assert load("[server]\nworkers = 3\n").snapshot.workers == 3


def test_trusted_proxies_are_networks_and_perhaps_unix_sockets() -> None:
    compiled = load('[server]\ntrusted_proxies = ["10.0.0.0/8", "::1", "unix:"]\n').snapshot
    assert compiled.trusted_proxies == (ip_network("10.0.0.0/8"), ip_network("::1/128"))
    assert compiled.trusts_unix


@pytest.mark.parametrize(
    ("written", "address"),
    [
        ("0.0.0.0:8080", Address("0.0.0.0", 8080)),
        ("[::]:8080", Address("::", 8080)),
        ("unix:/run/g.sock", Address(path="/run/g.sock")),
        ("unix:g.sock", Address(path="/etc/fastgw/g.sock")),
    ],
)
def test_listeners_take_addresses_of_all_families(written: str, address: Address) -> None:
    loaded = load(f'[[listeners]]\naddress = "{written}"\n', base=Path("/etc/fastgw"))
    assert loaded.snapshot.listeners[0].address == address


def test_endpoints_keep_their_written_name_and_weight() -> None:
    upstream = load('[upstreams.a]\nendpoints = ["b.internal:80", { address = "unix:/b", weight = 3 }, "[::1]:1"]\n')
    assert upstream.snapshot.upstreams["a"].endpoints == (
        snapshot.Endpoint("b.internal:80", Address("b.internal", 80)),
        snapshot.Endpoint("unix:/b", Address(path="/b"), 3),
        snapshot.Endpoint("[::1]:1", Address("::1", 1)),
    )


def test_the_log_file_starts_at_the_configuration_file() -> None:
    log = load('[access_log]\npath = "a.log"\nfields = ["time"]\n', base=Path("/etc/fastgw")).snapshot.access_log
    assert log == snapshot.AccessLog("/etc/fastgw/a.log", "json", ("time",))
    assert load("").snapshot.access_log.path == "stdout"


def log_of(text: str) -> snapshot.AccessLog:
    return load(f"[access_log]\n{text}\n", base=Path("/etc/fastgw")).snapshot.access_log


def test_a_log_without_rules_has_none() -> None:
    assert load("").snapshot.access_log == snapshot.AccessLog("stdout", "json", tuple(access_log.DEFAULT_FIELDS))
    assert log_of('sample = "100%"').rule is None
    assert load('[[routes]]\nlog = true\nupstream = "a"\n').snapshot.access_log.rule is None


def test_a_sampled_log_tells_its_share_in_each_line() -> None:
    log = log_of('fields = ["time"]\nsample = "1%"\nslow = "1s"')
    assert (log.fields, log.rule) == (("time", "sampled"), LogRule(0.01, 1.0))
    assert log_of('fields = ["sampled", "time"]\nsample = "1%"').fields == ("sampled", "time")
    assert log_of('fields = ["time"]\nslow = "1s"').fields == ("time",)
    of_a_route = load('[access_log]\nfields = ["time"]\n[[routes]]\nlog.sample = "1%"\nupstream = "a"\n').snapshot
    assert (of_a_route.access_log.fields, of_a_route.access_log.rule) == (("time", "sampled"), LogRule())


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", None),
        ("log = true", LogRule(1.0, 1.0)),
        ("log = false", LogRule(is_off=True)),
        ('log.sample = "10%"', LogRule(0.1, 1.0)),
        ('log.slow = "5s"', LogRule(0.01, 5.0)),
        ('log = { sample = "10%", slow = false }', LogRule(0.1, inf)),
    ],
)
def test_a_route_s_rule_begins_with_that_of_all(text: str, rule: LogRule | None) -> None:
    common = '[access_log]\nsample = "1%"\nslow = "1s"\n'
    assert load(f'{common}[[routes]]\nupstream = "a"\n{text}\n').snapshot.routes[0].log == rule


def test_names_are_hidden_beside_the_common_ones_or_shown() -> None:
    common = RedactionSettings()
    text = 'redact = { query = ["My-Code"], headers = ["X-Mine"], clear = ["query:Token", "header:Cookie"] }'
    redaction = log_of(text).redaction
    assert redaction.query == common.query - {b"token"} | {b"my_code"}
    assert redaction.headers == common.headers - {b"cookie"} | {b"x-mine"}
    assert log_of("").redaction == common


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("syslog:udp://[::1]:514", SyslogTarget("udp", Address("::1", 514), 23, "fastgw")),
        ("syslog:tcp://logs.internal:601", SyslogTarget("tcp", Address("logs.internal", 601), 23, "fastgw")),
        ("syslog:unix:/dev/log", SyslogTarget("unix", Address(path="/dev/log"), 23, "fastgw")),
        ("syslog:unix:log", SyslogTarget("unix", Address(path="/etc/fastgw/log"), 23, "fastgw")),
    ],
)
def test_a_syslog_is_a_target(path: str, target: SyslogTarget) -> None:
    log = log_of(f'path = "{path}"')
    assert (log.path, log.syslog) == (path, target)
    marked = log_of(f'path = "{path}"\nsyslog = {{ facility = "local0", tag = "shop" }}').syslog
    assert marked == replace(target, facility=16, tag="shop")


def test_a_split_leaves_out_parts_without_weight() -> None:
    text = """
[upstreams.a]
endpoints = ["h:1"]
[upstreams.b]
endpoints = ["h:2"]
[upstreams.c]
endpoints = ["h:3"]
[[routes]]
upstream = [{ upstream = "a", weight = 95 }, { upstream = "b", weight = 0 }, { upstream = "c", weight = 5 }]
"""
    compiled = load(text).snapshot.routes[0]
    assert (compiled.upstreams, compiled.weights) == (("a", "c"), (95, 5))


def test_rules_are_in_normal_form() -> None:
    text = (
        'host = ["Shop.Example.", "*.Example"]\npath = "/caf\u00e9/%7euser/{id}"\nmethods = ["GET"]\nupstream = "a"\n'
    )
    router = load(f"[[routes]]\n{text}").snapshot.router
    assert [host for host, _ in router.order()] == [b"shop.example", b"*.example"]
    assert router.match(b"shop.example", b"/caf%C3%A9/~user/7", b"GET", _Facts())[1] == (b"7",)


class _Facts:
    def header(self, name: bytes) -> bytes | None:
        return {b"x-beta": b"1"}.get(name)

    def query_value(self, name: bytes) -> bytes | None:
        return None

    def cookie(self, name: bytes) -> bytes | None:
        return None


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ('headers = { X-Beta = "1" }', True),
        ('headers = { X-Beta = "~[0-9]" }', True),
        ('headers = { X-Beta = "present" }', True),
        ('headers = { X-Beta = "absent" }', False),
        ('headers = { X-Beta = "2" }', False),
        ('query = { v = "absent" }', True),
        ('cookies = { v = "present" }', False),
    ],
)
def test_conditions_reach_the_router(condition: str, holds: bool) -> None:
    router: Router = load(f'[[routes]]\nupstream = "a"\nmatch.{condition}\n').snapshot.router
    assert (router.match(b"h", b"/", b"GET", _Facts())[0] == 0) is holds


def test_a_rewrite_is_built_from_the_parameters_in_any_order() -> None:
    compiled = route('path = "/{a}/{b}/{c*}"\nupstream = "a"\nrewrite.path = "/{c}-{a}/x"\n').rewrite
    assert compiled is not None
    assert compiled.path == PathTemplate((b"/", b"-", b"/x"), (2, 0))


def test_a_prefix_is_stripped_without_its_final_slash() -> None:
    compiled = route('path = "/api/*"\nupstream = "a"\nrewrite.strip_prefix = "/api/"\n').rewrite
    assert compiled is not None
    assert compiled.strip_prefix == b"/api"


def test_a_prefix_may_be_the_whole_path() -> None:
    compiled = route('path = "/api"\nupstream = "a"\nrewrite.strip_prefix = "/api"\n').rewrite
    assert compiled is not None
    assert compiled.strip_prefix == b"/api"


def test_a_step_that_a_route_does_not_use_is_none() -> None:
    compiled = route('upstream = "a"\n')
    assert compiled == Route("route-1", ("a",), (1,))


def test_header_edits_drop_what_is_set_or_removed_and_add_what_is_set_or_added() -> None:
    compiled = edits('request.headers = { set = { X-Api = "1" }, add = { X-Via = "b" }, remove = ["Cookie"] }\n')
    assert compiled.names == {b"x-api", b"cookie"}
    assert compiled.lines == b"\r\nX-Api: 1\r\nX-Via: b"
    assert compiled.drop is not None
    head = b"\r\nx-api: 0\r\nCOOKIE: a=b\r\nX-Api-Key: k\r\nAccept: cookie: x"
    assert compiled.drop.sub(b"", head) == b"\r\nX-Api-Key: k\r\nAccept: cookie: x"


def test_edits_that_only_add_drop_nothing() -> None:
    compiled = edits('request.headers.add = { X-Via = "b" }\n')
    assert (compiled.drop, compiled.names) == (None, frozenset())


def test_a_plain_body_has_a_type_unless_the_route_gives_one() -> None:
    assert reply('respond = { body = "ok" }\n') == LocalReply(
        200, b"\r\nContent-Type: text/plain; charset=utf-8", b"ok"
    )
    assert (
        reply('respond = { body = "ok", headers = { content-type = "text/css" } }\n').lines
        == b"\r\ncontent-type: text/css"
    )
    assert reply("respond.status = 204\n") == LocalReply(204, b"", b"")


def test_json_is_made_from_toml() -> None:
    compiled = reply('respond.json = { a = [1, 2.5, true], d = 2024-01-01T00:00:00Z, s = "\u00e9" }\n')
    assert compiled.lines == b"\r\nContent-Type: application/json"
    assert compiled.body.decode() == '{"a":[1,2.5,true],"d":"2024-01-01T00:00:00+00:00","s":"\u00e9"}'


def test_a_redirect_makes_its_location_from_the_path() -> None:
    compiled = reply('path = "/old/{rest*}"\nredirect.to = "https://h.example/new/{rest}"\n')
    location = PathTemplate((b"https://h.example/new/", b""), (0,))
    assert compiled == LocalReply(308, b"", b"", location, keep_query=True)


def test_the_edits_of_an_answer_are_made_in_the_gateways_own_beforehand() -> None:
    text = 'respond = { body = "ok", headers = { X-A = "1", X-B = "2" } }\n'
    text += 'response.headers = { set = { X-A = "3" }, add = { X-C = "4" }, remove = ["content-type"] }\n'
    compiled = route(text)
    assert compiled.response_edits is None
    assert compiled.reply is not None
    assert compiled.reply.lines == b"\r\nX-B: 2\r\nX-A: 3\r\nX-C: 4"


DEFAULTS = """
[defaults]
timeout = "5s"
rewrite.host = "default.internal"
request.headers = { set = { X-A = "default", X-B = "default" }, remove = ["Cookie"] }
response.headers = { remove = ["Server"] }
"""


def with_defaults(text: str) -> Route:
    return load(f"{DEFAULTS}[[routes]]\n{text}").snapshot.routes[0]


def test_a_route_gets_the_defaults() -> None:
    compiled = with_defaults('upstream = "a"\n')
    assert compiled.timeout == 5
    assert compiled.rewrite == snapshot.Rewrite(host=b"default.internal")
    assert compiled.request_edits is not None
    assert compiled.request_edits.lines == b"\r\nX-A: default\r\nX-B: default"
    assert compiled.response_edits is not None


def test_a_routes_own_values_win() -> None:
    text = 'upstream = "a"\ntimeout = "1s"\nrewrite.host = "own:81"\n'
    compiled = with_defaults(text + 'request.headers = { set = { x-a = "own" }, remove = ["X-B"] }\n')
    assert compiled.timeout == 1
    assert compiled.rewrite == snapshot.Rewrite(host=b"own:81")
    assert compiled.request_edits is not None
    assert compiled.request_edits.lines == b"\r\nx-a: own"
    assert compiled.request_edits.names == {b"x-a", b"x-b", b"cookie"}


def test_false_switches_a_default_off() -> None:
    text = 'upstream = "a"\ntimeout = false\nrewrite.host = false\nrequest.headers = false\nresponse.headers = false\n'
    assert with_defaults(text) == Route("route-1", ("a",), (1,))


def test_a_route_that_answers_by_itself_may_switch_off_what_forwarding_has() -> None:
    assert with_defaults('respond.body = "ok"\nrequest.headers = false\nrewrite.host = false\n').rewrite is None


def test_the_example_is_right() -> None:
    text = (Path(__file__).parents[2] / "config.toml").read_text(encoding="utf-8")
    loaded = load_text(text, environment={})
    assert text.startswith("#:schema ./config.schema.json\n")
    assert [upstream.endpoints[0].address.port for upstream in loaded.snapshot.upstreams.values()] == [9001, 9002, 9003]


def test_a_sticky_upstream_has_its_cookie_whole() -> None:
    upstreams = load(
        '[upstreams.a]\nendpoints = ["h:1"]\nsticky = { secret = "0123456789abcdef", max_age = "90s" }\n'
        '[upstreams.b]\nendpoints = ["h:1"]\n'
        'sticky = { cookie = "s", secret = ["0123456789abcdef", "fedcba9876543210"], secure = false }\n'
    ).snapshot.upstreams
    a, b = upstreams["a"].sticky, upstreams["b"].sticky
    assert a is not None
    assert (a.cookie, a.attributes) == (b"fastgw_a", b"; Path=/; HttpOnly; SameSite=Lax; Secure; Max-Age=90")
    assert b is not None
    assert (b.cookie, b.attributes) == (b"s", b"; Path=/; HttpOnly; SameSite=Lax")
    assert len(b.secrets) == 2
    assert "0123456789abcdef" not in repr(upstreams)


def test_a_split_that_is_not_drawn_by_lot_alone_keeps_parts_without_weight() -> None:
    parts = 'upstream = [{ upstream = "a", weight = 1 }, { upstream = "b", weight = 0 }]\n'
    others = '[upstreams.a]\nendpoints = ["h:1"]\n[upstreams.b]\nendpoints = ["h:2"]\n'
    choice = 'split = { header = "X-Arm", sticky = { secret = "0123456789abcdef" } }\n'
    (compiled,) = load(f'[[routes]]\nname = "r"\n{parts}{choice}{others}').snapshot.routes
    assert (compiled.upstreams, compiled.weights) == (("a", "b"), (1, 0))
    assert compiled.arms is not None
    assert (compiled.arms.header, compiled.arms.cookie) == (b"x-arm", b"")
    assert compiled.arms.sticky is not None
    assert compiled.arms.sticky.cookie == b"fastgw_split_r"


def test_a_mirror_has_the_same_defaults_in_the_language_as_in_the_snapshot() -> None:
    others = '[upstreams.a]\nendpoints = ["h:1"]\n[upstreams.b]\nendpoints = ["h:2"]\n'
    plain, compared = load(
        f'{others}[[routes]]\npath = "/1"\nupstream = "a"\nmirror = "b"\n[[routes]]\npath = "/2"\nupstream = "a"\n'
        'mirror.upstream = "b"\nmirror.sample = "5%"\n'
        'mirror.compare = { headers = ["X-A", "x-a"], ignore = ["$.t"], sample = "1%" }\n'
    ).snapshot.routes
    assert plain.mirror == snapshot.Mirror("b")
    settings = MirrorSettings(headers=(b"x-a",), ignored_paths=frozenset({"$.t"}))
    assert compared.mirror == snapshot.Mirror("b", sample=0.05, compare=settings, compare_sample=0.01)
    whole = load(f'{others}[[routes]]\nupstream = "a"\nmirror = {{ upstream = "b", compare = true }}\n').snapshot.routes
    assert whole[0].mirror == snapshot.Mirror("b", compare=MirrorSettings())


HEDGED = '[upstreams.a]\nendpoints = ["h:1"]\nretry = {retry}\n[[routes]]\nupstream = "a"\n{route}\n'


@pytest.mark.parametrize(
    ("retry", "route", "expected"),
    [
        ("true", "", (None, False, None)),
        ("true", "retry.hedge = true", (HedgeSettings(), False, True)),
        ("{ hedge = true }", "", (HedgeSettings(), True, None)),
        ("{ hedge = true }", "retry.hedge = false", (HedgeSettings(), True, False)),
        ("{ hedge = true }", "retry = false", (HedgeSettings(), True, False)),
        ('{ hedge = { quantile = "99%", min_delay = "1s" } }', "", (HedgeSettings(0.99, 1.0), True, None)),
        ("{ hedge = { all_routes = false } }", "", (None, False, None)),
        ("{ hedge = { all_routes = false } }", "retry.hedge = true", (HedgeSettings(), False, True)),
    ],
)
def test_hedging_is_there_where_a_route_or_all_of_them_have_it(retry: str, route: str, expected: object) -> None:
    compiled = load(HEDGED.format(retry=retry, route=route)).snapshot
    policy = compiled.upstreams["a"].retry
    assert policy is not None
    assert (policy.hedge, policy.hedges_by_default, compiled.routes[0].hedges) == expected
    assert (policy.settings.conditions & SLOW > 0) == (policy.hedge is not None)
