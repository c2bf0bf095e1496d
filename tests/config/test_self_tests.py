from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from fastgw.config.load import load_config
from fastgw.config.self_tests import run_self_tests
from fastgw.snapshot import Snapshot
from tests.config.sources import load


@dataclass
class Explained:
    route: str | None = None
    upstream: str | None = None
    path: str | None = None
    status: int | None = None
    location: str | None = None
    is_drawn: bool = False
    reason: str = ""


class Explainer:
    """Answers every request the same, and remembers them."""

    def __init__(self, answer: Explained) -> None:
        self.answer = answer
        self.asked: list[tuple[str, str, list[tuple[str, str]]]] = []

    def __call__(self, snapshot: Snapshot, method: str, url: str, headers: list[tuple[str, str]]) -> Explained:
        self.asked.append((method, url, headers))
        return self.answer


def failures(test: str, answer: Explained, rest: str = "") -> list[str]:
    return [str(problem) for problem in run_self_tests(load(f"[[tests]]\n{test}{rest}"), Explainer(answer))]


def test_what_is_expected_and_comes_is_not_said() -> None:
    test = 'request = "GET http://h/"\nexpect = { route = "route-1", upstream = "a", path = "/", status = 200 }\n'
    assert failures(test, Explained("route-1", "a", "/", 200)) == []


def test_a_failure_is_said_at_the_expectation_with_the_reason() -> None:
    test = 'request = "GET http://h/"\nexpect = { route = "route-1" }\n'
    assert failures(test, Explained(reason="no-route")) == [
        'config.toml:3:20: tests[1].expect.route: expected route "route-1", got none; no-route'
    ]


@pytest.mark.parametrize(
    ("expectation", "said"),
    [
        ('upstream = "a"', 'upstream "a", got "b"'),
        ('path = "/x"', 'path "/x", got "/y"'),
        ("status = 404", "status 404, got 308"),
        ('location = "/x"', 'location "/x", got "/z"'),
    ],
)
def test_everything_that_differs_is_said(expectation: str, said: str) -> None:
    answer = Explained("route-1", "b", "/y", 308, "/z")
    (failure,) = failures(f'request = "GET http://h/"\nexpect = {{ {expectation} }}\n', answer)
    assert failure.endswith(f"expected {said}")


def test_failures_come_in_the_order_of_the_file() -> None:
    test = 'request = "GET http://h/"\nexpect.status = 404\nexpect.route = "route-1"\n'
    said = failures(test + "[[tests]]\n" + test, Explained())
    assert [line.split(":")[1] for line in said] == ["3", "4", "7", "8"]


def test_any_part_of_a_split_is_its_upstream() -> None:
    rest = '[upstreams.a]\nendpoints = ["h:1"]\n[upstreams.b]\nendpoints = ["h:2"]\n[[routes]]\n'
    rest += 'upstream = [{ upstream = "a" }, { upstream = "b" }]\n'
    test = 'request = "GET http://h/"\nexpect.upstream = "a"\n'
    assert failures(test, Explained("route-1", "b", is_drawn=True), rest) == []
    # But not where the request has chosen another.
    assert len(failures(test, Explained("route-1", "b"), rest)) == 1


def test_a_request_is_a_line_or_a_table() -> None:
    explainer = Explainer(Explained(status=404))
    text = '[[tests]]\nrequest = "PUT http://h/a?b"\nexpect.status = 404\n'
    text += '[[tests]]\nrequest = { url = "http://h/c", headers = { X-A = "1" } }\nexpect.status = 404\n'
    assert run_self_tests(load(text), explainer) == []
    assert explainer.asked == [("PUT", "http://h/a?b", []), ("GET", "http://h/c", [("X-A", "1")])]


def test_what_came_from_the_environment_is_not_printed() -> None:
    test = 'request = "GET http://h/"\nexpect.location = "/x"\n'
    rest = '[[routes]]\nredirect.to = "https://${SECRET}/"\n'
    assert failures(test, Explained(location="https://hunter2/"), rest) == [
        'config.toml:3:19: tests[1].expect.location: expected location "/x", got "https://${SECRET}/"'
    ]


def test_the_tests_of_the_example_pass() -> None:
    from fastgw.runtime.explain import explain  # noqa: PLC0415

    loaded = load_config(Path(__file__).parents[2] / "config.toml")
    assert len(loaded.tests) == 8
    assert run_self_tests(loaded, explain) == []
