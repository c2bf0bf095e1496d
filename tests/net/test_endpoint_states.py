from __future__ import annotations

from collections import Counter
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from fastgw.net.endpoint_states import EndpointStates
from fastgw.snapshot import Upstream
from tests.fakes import Clock, snapshot_of

ENDPOINTS = 'endpoints = ["h:1", "h:2", "h:3"]'


def upstream(settings: str, endpoints: str = ENDPOINTS) -> Upstream:
    text = f"""
        [[listeners]]
        address = "127.0.0.1:0"
        [upstreams.a]
        {endpoints}
        {settings}
        [[routes]]
        upstream = "a"
    """
    return snapshot_of(text).upstreams["a"]


class Told:
    def __init__(self, settings: str, endpoints: str = ENDPOINTS) -> None:
        self.clock = Clock()
        self.told: list[str] = []
        self.news: list[tuple[str, str]] = []
        written = upstream(settings, endpoints)
        self.states = EndpointStates(written, self.clock, lambda: 0.25, self.told.append, tell=self._hear)

    def _hear(self, kind: str, outcome: str, line: str) -> None:
        assert line == self.told[-1] or outcome == "breaker-half-open"
        self.news.append((kind, outcome))

    def picked(self, picks: int = 30) -> Counter[int]:
        states = self.states
        return Counter(states.balancer.pick(states.active, 10, states.out) for _ in range(picks))


class KeyedRequest:
    path = b"/items"

    def header(self, name: bytes) -> bytes | None:
        return b"alice" if name == b"x-user" else None

    def cookie(self, name: bytes) -> bytes | None:
        return b"bob" if name == b"user" else None

    def query_value(self, name: bytes) -> bytes | None:
        return b"carol" if name == b"user" else None


class FakeExchange:
    def __init__(self, client: bytes = b"192.0.2.1") -> None:
        self.client = client
        self.request = KeyedRequest()
        self.tried = 0


def test_without_anything_configured_nothing_is_looked_at() -> None:
    states = Told("").states
    assert (states.observes, states.admission, states.ticks, states.out) == (False, None, False, 0)


def test_an_endpoint_whose_checks_fail_is_out_until_they_don_t() -> None:
    made = Told("")
    made.states.set_unhealthy({"h:2"})
    assert set(made.picked()) == {0, 2}
    made.states.set_unhealthy(frozenset())
    assert set(made.picked()) == {0, 1, 2}
    # The supervisor has said so for all workers.
    assert made.told == []


def test_backups_are_used_when_nobody_else_is_there() -> None:
    made = Told("", 'endpoints = ["h:1", { address = "h:2", backup = true }]')
    assert set(made.picked()) == {0}
    made.states.set_unhealthy({"h:1"})
    assert set(made.picked()) == {1}


def test_when_all_are_unhealthy_all_are_used_unless_there_is_no_panic() -> None:
    made = Told("")
    made.states.set_unhealthy({"h:1", "h:2", "h:3"})
    assert set(made.picked()) == {0, 1, 2}
    calm = Told('panic_threshold = "0%"')
    calm.states.set_unhealthy({"h:1", "h:2", "h:3"})
    assert calm.states.out == calm.states.everyone


def test_failures_eject_and_time_brings_back() -> None:
    made = Told('outliers = { consecutive_failures = 2, eject_for = "10s" }')
    for _ in range(2):
        made.states.failed(1)
    assert made.states.out == 0b010
    assert made.told == ["upstream a: h:2 is ejected: 2 failures in a row; ejected for 10 s"]
    made.states.tick(made.clock.now + 10.1)
    assert made.states.out == 0
    for _ in range(5):
        made.states.succeeded(1, 0.01)
    assert made.states.out == 0
    assert made.told[1:] == ["upstream a: h:2 is on trial", "upstream a: h:2 is not ejected any more"]
    # The supervisor learns of it, too.
    assert made.news == [("endpoint", "ejected"), ("endpoint", "on-trial"), ("endpoint", "returned")]


def test_of_a_panic_and_its_end_the_supervisor_is_told() -> None:
    made = Told('outliers = { consecutive_failures = 1, eject_for = "10s", max_ejected = "100%" }')
    for place in range(3):
        made.states.failed(place)
    assert ("upstream", "panic") in made.news
    made.clock.now += 10.1
    made.states.tick(made.clock.now)
    made.states.succeeded(0, 0.01)
    assert made.told.count("upstream a: too few endpoints are available: all are used") == 1
    for _ in range(10):
        for place in range(3):
            made.states.succeeded(place, 0.01)
    assert made.news.count(("upstream", "no-panic")) == 1


def put_on_trial(settings: str = "", endpoints: str = ENDPOINTS) -> Told:
    """The second endpoint is; all of its ejection's time has passed."""
    made = Told('outliers = { consecutive_failures = 1, eject_for = "10s" }\n' + settings, endpoints)
    made.states.failed(1)
    made.clock.now += 10.1
    made.states.tick(made.clock.now)
    return made


def picked_in_a_tick(made: Told, picks: int = 30) -> list[int]:
    """As the pool picks."""
    states = made.states
    found = []
    for _ in range(picks):
        if states.looks_at_request:
            found.append(states.pick_for(cast(Any, FakeExchange()), 10, states.out))
        else:
            found.append(states.balancer.pick(states.active, 10, states.out))
    made.clock.now += 0.1
    states.tick(made.clock.now)
    return found


@pytest.mark.parametrize("balance", ["round-robin", "least-requests", "power-of-two", "random"])
def test_an_endpoint_on_trial_gets_one_request_a_tick(balance: str) -> None:
    made = put_on_trial(f'balance = "{balance}"')
    made.states.active[0] = made.states.active[2] = 1
    for _ in range(3):
        assert picked_in_a_tick(made).count(1) == (1 if balance != "random" else 0)
        assert made.states.looks_at_request
    # Who has been tried elsewhere goes to one that is known to be well.
    assert made.states.excluded(0b001) == 0b011
    for _ in range(5):
        made.states.succeeded(1, 0.01)
    assert not made.states.looks_at_request
    assert picked_in_a_tick(made).count(1) > 1 or balance == "random"


def test_a_key_s_endpoint_on_trial_gets_a_request_of_that_key() -> None:
    made = put_on_trial('balance = "hash"\nhash_on = "client.ip"')
    states = made.states
    clients = [FakeExchange(b"192.0.2.%d" % number) for number in range(64)]
    owners = [states.pick_by_key(cast(Any, client), 10, 0) for client in clients]
    picked = [states.pick_for(cast(Any, client), 10, states.out) for client in clients]
    assert picked.count(1) == 1
    assert owners[picked.index(1)] == 1


def test_a_failure_on_trial_is_told() -> None:
    made = put_on_trial()
    made.states.failed(1)
    assert made.states.out == 0b010
    assert not made.states.looks_at_request
    assert made.told[-1] == "upstream a: h:2 is ejected: a failure on trial; ejected for 20 s, number 2 in a row"


def test_a_trial_ends_no_panic_and_in_panic_all_get_their_share() -> None:
    made = put_on_trial()
    made.states.set_unhealthy({"h:1", "h:3"})
    assert made.told[-1] == "upstream a: too few endpoints are available: all are used"
    assert picked_in_a_tick(made).count(1) == 10
    made.states.set_unhealthy({"h:1"})
    assert made.told[-1] == "upstream a: enough endpoints are available"
    assert picked_in_a_tick(made).count(1) == 1


def test_a_backup_is_not_tried_while_it_is_not_needed() -> None:
    made = put_on_trial(endpoints='endpoints = ["h:1", { address = "h:2", backup = true }, "h:3"]')
    assert picked_in_a_tick(made).count(1) == 0


def test_an_endpoint_that_passes_its_checks_again_is_on_trial_however_long_it_was_ejected_for() -> None:
    made = Told("outliers = { consecutive_failures = 1 }")
    made.states.failed(1)
    made.states.tick(made.clock.now)
    made.states.set_unhealthy(frozenset())
    made.states.tick(made.clock.now)
    # The checks have never seen what clients have.
    assert made.states.out == 0b010
    made.states.set_unhealthy({"h:2"})
    made.states.set_unhealthy(frozenset())
    made.states.tick(made.clock.now)
    assert made.told[1:] == ["upstream a: h:2 is on trial"]
    assert made.states.out == 0


def test_an_endpoint_that_passes_its_checks_again_lets_an_open_breaker_try() -> None:
    made = Told("breaker = { consecutive_failures = 1, trials = 1 }")
    admission = made.states.admission
    assert admission is not None
    assert admission.refusal() is None
    made.states.set_unhealthy({"h:2"})
    admission.concluded(True)
    assert admission.refusal() is not None
    made.states.set_unhealthy(frozenset())
    assert admission.refusal() is None
    admission.concluded(False)
    assert made.told[-1] == "upstream a: the circuit breaker is closed"


def test_one_that_comes_back_is_given_its_share_little_by_little() -> None:
    made = Told('slow_start = "10s"')
    made.states.set_unhealthy({"h:1"})
    made.states.set_unhealthy(frozenset())
    few = made.picked(100)[0]
    made.clock.now += 10.1
    made.states.tick(made.clock.now)
    assert few < 15
    assert made.picked(99)[0] == 33


def test_peak_ewma_hears_of_good_answers_and_time_outs_only() -> None:
    made = Told('balance = "ewma"')
    states = made.states
    states.responded(0, 0.010, 200)
    states.responded(1, 0.001, 503)
    states.failed(1)
    states.timed_out(2, 0.500)
    balancer = cast(Any, states.balancer)
    assert [balancer.average(endpoint) for endpoint in range(3)] == [0.010, None, 0.500]


def test_being_outpaced_is_no_failure_and_makes_an_endpoint_look_no_faster() -> None:
    made = Told('balance = "ewma"\noutliers = { consecutive_failures = 1 }\nbreaker = true\nconcurrency = true')
    states = made.states
    balancer = cast(Any, states.balancer)
    states.outpaced(0, 0.050)
    assert (balancer.average(0), states.out) == (0.050, 0)
    # What it costs against the others, which is what decides, sinks if nothing comes in; never for what does.
    states.responded(1, 0.400, 200)
    made.clock.now += 15
    before = balancer._grown[1]
    states.outpaced(1, 0.050)
    assert balancer._grown[1] > before


def test_the_same_key_goes_to_the_same_endpoint() -> None:
    for hash_on in ("client.ip", "path", "header:X-User", "cookie:user", "query:user"):
        states = Told(f'balance = "hash"\nhash_on = "{hash_on}"').states
        picked = {states.pick_by_key(cast(Any, FakeExchange()), 10, states.out) for _ in range(10)}
        assert len(picked) == 1, hash_on
    states = Told('balance = "hash"\nhash_on = "client.ip"').states
    clients = [FakeExchange(b"192.0.2.%d" % number) for number in range(64)]
    assert {states.pick_by_key(cast(Any, client), 10, states.out) for client in clients} == {0, 1, 2}


def test_a_key_s_endpoint_that_is_out_is_passed_over() -> None:
    states = Told('balance = "hash"\nhash_on = "client.ip"').states
    owner = states.pick_by_key(cast(Any, FakeExchange()), 10, states.out)
    states.set_unhealthy({f"h:{owner + 1}"})
    assert states.pick_by_key(cast(Any, FakeExchange()), 10, states.out) not in (owner, -1)


def test_a_request_without_the_key_goes_anywhere() -> None:
    states = Told('balance = "hash"\nhash_on = "header:X-Nobody"').states
    assert states.pick_by_key(cast(Any, FakeExchange()), 10, states.out) in (0, 1, 2)


STICKY = 'sticky = { secret = "0123456789abcdef" }'


def sticky_exchange(states: EndpointStates, place: int) -> Any:
    exchange = FakeExchange()
    assert states.sticky is not None
    value = states.sticky.line(place, None).partition(b"=")[2].partition(b";")[0]
    return cast(Any, SimpleNamespace(sticky_token=value, tried=exchange.tried, client=b"", request=exchange.request))


@pytest.mark.parametrize("balance", ["", 'balance = "hash"\nhash_on = "path"\n'])
def test_a_cookie_leads_to_its_endpoint_as_long_as_that_can_be_taken(balance: str) -> None:
    made = Told(balance + STICKY)
    states = made.states
    exchange = sticky_exchange(states, 2)
    assert states.looks_at_request
    assert [states.pick_for(exchange, 10, states.excluded(exchange.tried)) for _ in range(3)] == [2, 2, 2]
    # Tried, full, or out: somebody else.
    exchange.tried = 0b100
    assert states.pick_for(exchange, 10, states.excluded(exchange.tried)) in (0, 1)
    exchange.tried = 0
    states.active[2] = 10
    assert states.pick_for(exchange, 10, states.excluded(exchange.tried)) in (0, 1)
    states.active[2] = 0
    states.set_unhealthy({"h:3"})
    assert states.pick_for(exchange, 10, states.excluded(exchange.tried)) in (0, 1)


def test_without_a_cookie_the_balancer_chooses() -> None:
    states = Told(STICKY).states
    exchange = sticky_exchange(states, 2)
    exchange.sticky_token = b"forged"
    assert [states.pick_for(exchange, 10, states.excluded(exchange.tried)) for _ in range(4)] == [0, 1, 2, 0]


def test_a_request_that_has_tried_the_primaries_may_go_to_backups() -> None:
    states = Told("", 'endpoints = ["h:1", { address = "h:2", backup = true }]').states
    assert [states.excluded(tried) for tried in (0b00, 0b01, 0b11)] == [0b10, 0b01, 0b11]


def test_panic_is_told_once_and_is_no_recovery() -> None:
    made = Told('slow_start = "10s"')
    made.states.set_unhealthy({"h:1", "h:2", "h:3"})
    assert made.told == ["upstream a: too few endpoints are available: all are used"]
    assert made.picked(30) == Counter({0: 10, 1: 10, 2: 10})
    made.states.set_unhealthy({"h:1", "h:2"})
    assert made.told[1:] == ["upstream a: enough endpoints are available"]
    assert set(made.picked()) == {2}


# Other endpoints.


def follow(told: Told, *ports: int, settings: str = "") -> EndpointStates:
    listed = ", ".join(f'"h:{port}"' for port in ports)
    other = upstream(settings, f"endpoints = [{listed}]")
    slots = told.states.slots.followed_by(other.endpoints, lambda index: not told.states.active[index])
    told.states = told.states.followed_by(other, slots)
    return told.states


def test_who_stays_keeps_what_is_known_of_it_and_a_new_one_begins_anew() -> None:
    settings = 'balance = "ewma"\nhealth = true\nbreaker = true\nconcurrency = true\n'
    settings += 'outliers = { consecutive_failures = 1, eject_for = "9s" }'
    told = Told(settings)
    before = told.states
    before.active[1] = 3
    before.failed(0)
    before.responded(2, 5.0, 200)
    before.set_unhealthy({"h:2", "h:4"})
    said = list(told.told)
    after = follow(told, 1, 2, 4, settings=settings)
    assert after.active == [0, 3, 0]
    assert after.active is before.active
    assert after.admission is before.admission is not None
    assert after.detector is not None
    assert (after.detector.ejected, "failures in a row" in after.detector.reason(0)) == (0b001, True)
    assert after._ewma is not None
    assert after._ewma.average(2) is None
    # Whatever h:4 is found to be is not told of who has come; only that none is left.
    assert told.told == [*said, "upstream a: too few endpoints are available: all are used"]


def test_who_is_on_trial_stays_so() -> None:
    made = put_on_trial()
    said = list(made.told)
    states = follow(made, 1, 2, 4, settings='outliers = { consecutive_failures = 1, eject_for = "10s" }')
    assert picked_in_a_tick(made).count(1) == 1
    assert made.told == said
    states.failed(1)
    assert "a failure on trial" in made.told[-1]
    gone = follow(made, 1, 4, settings="outliers = true")
    assert (gone.detector and gone.detector.ejected, gone._trials) == (0, 0)


def test_nobody_is_told_of_who_is_new_or_gone() -> None:
    told = Told("", 'endpoints = ["h:1", "h:2", { address = "h:3", backup = true }]')
    assert told.states.out == 0b100
    backup = upstream("", 'endpoints = [{ address = "h:3", backup = true }, "h:4"]')
    slots = told.states.slots.followed_by(backup.endpoints, lambda _: True)
    told.states = told.states.followed_by(backup, slots)
    assert told.picked() == {0: 30}
    alone = replace(backup, endpoints=backup.endpoints[:1])
    told.states = told.states.followed_by(alone, told.states.slots.followed_by(alone.endpoints, lambda _: False))
    assert (told.told, told.picked()) == ([], {2: 30})


def test_a_request_that_has_tried_all_there_are_is_not_sent_to_who_is_gone() -> None:
    told = Told("")
    told.states.active[2] = 1
    after = follow(told, 1, 2)
    assert after.excluded(0b001) == 0b101
    assert after.excluded(0b011) == after.everyone


def test_a_request_that_has_tried_all_there_are_begins_anew_when_some_have_left_their_place() -> None:
    after = follow(Told(""), 1)
    assert after.excluded(0b111) == after.everyone == 0b001
    assert after.excluded(0b110) == 0


def test_one_that_is_gone_is_not_ejected_in_the_place_of_one_that_is_bad() -> None:
    settings = 'outliers = { consecutive_failures = 2, eject_for = "9s" }'
    told = Told(settings)
    told.states.active[0] = 4
    after = follow(told, 2, 3, settings=settings)
    # A backend that is stopped breaks what it is busy with.
    for endpoint in (0, 0, 0, 0, 1, 1):
        after.failed(endpoint)
    assert (after.out, told.told) == (0b011, ["upstream a: h:2 is ejected: 2 failures in a row; ejected for 9 s"])


def test_a_cookie_leads_to_its_endpoint_wherever_that_is_now_and_no_more_to_one_that_is_gone() -> None:
    told = Told(STICKY)
    first, third = sticky_exchange(told.states, 0), sticky_exchange(told.states, 2)
    after = follow(told, 4, 3, settings=STICKY)
    assert [after.slots.endpoints[after.pick_for(third, 10, after.out)].name for _ in range(3)] == ["h:3"] * 3
    names = {after.slots.endpoints[after.pick_for(first, 10, after.out)].name for _ in range(4)}
    assert names == {"h:3", "h:4"}


def test_what_is_gone_gets_nothing_even_in_panic() -> None:
    told = Told("health = true")
    told.states.active[2] = 1
    after = follow(told, 1, 2)
    after.set_unhealthy({"h:1", "h:2"})
    assert after.out == 0b100
    assert set(told.picked()) == {0, 1}


def test_a_new_endpoint_warms_up_unless_all_are_new() -> None:
    settings = 'slow_start = "10s"\nbalance = "random"'
    told = Told(settings)
    after = follow(told, 1, 2, 4, settings=settings)
    assert after._warming is not None
    assert after._warming.effective(told.clock()) == (1.0, 1.0, 0.1)
    told.clock.now += 5
    again = follow(told, 1, 4, 5, settings=settings)
    assert again._warming is not None
    assert again._warming.effective(told.clock()) == (1.0, 0.1, 0.5)
    first = Told(settings)
    nobody = first.states.slots.followed_by((), lambda _: True)
    first.states = first.states.followed_by(upstream(settings), nobody)
    assert follow(first, 1, 2, settings=settings)._warming.are_warm(told.clock())  # type: ignore[union-attr]


def test_keys_keep_their_owners_when_another_endpoint_comes_in_a_place_that_is_not_the_last() -> None:
    settings = 'balance = "hash"\nhash_on = "client.ip"'
    told = Told(settings)

    def owners() -> list[str]:
        states = told.states
        exchanges = [cast(Any, FakeExchange(b"192.0.2.%d" % number)) for number in range(100)]
        return [states.slots.endpoints[states.pick_by_key(one, 10, states.out)].name for one in exchanges]

    before = owners()
    told.states.active[1] = 1
    follow(told, 1, 3, settings=settings)
    after = owners()
    assert "h:2" not in after
    moved = [old for old, new in zip(before, after, strict=True) if old not in (new, "h:2")]
    assert len(moved) < 20
