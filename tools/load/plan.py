"""What a load test does and what came of it, as the two processes of `load_test.py` tell each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Known:
    """A picture, and what the server said about it when it had nothing else to do."""

    path: str
    door: str
    answer: str


@dataclass(frozen=True)
class Plan:
    """Who asks what, and for how long.

    Attributes:
        url: the server's root.
        doors: their weights in the mix, by name; `options` likewise.
        answer_seconds: how long a user waits for an answer.
        report: where the HTML goes.
    """

    url: str
    model: str
    headers: Mapping[str, str]
    pictures: tuple[Known, ...]
    doors: Mapping[str, int]
    options: Mapping[str, int]
    users: int
    seconds: float
    answer_seconds: float
    report: str


@dataclass(frozen=True)
class Row:
    """Some of the requests; times are in milliseconds, of answers and errors alike."""

    name: str
    requests: int
    errors: int
    per_second: float
    median: float
    p95: float
    p99: float
    slowest: float

    @property
    def error_rate(self) -> float:
        """Errors a request."""
        return self.errors / self.requests if self.requests else 1.0


@dataclass(frozen=True)
class Problem:
    """What went wrong with some requests."""

    name: str
    message: str
    count: int


@dataclass(frozen=True)
class Outcome:
    """What came of it.

    Attributes:
        total: all requests.
        doors: those of each door.
        options: those of each kind of question.
        problems: what the errors were.
        failures: what went wrong in the load test itself; its figures are worth nothing then.
    """

    total: Row
    doors: tuple[Row, ...]
    options: tuple[Row, ...]
    problems: tuple[Problem, ...]
    failures: tuple[str, ...]


def plan_of(given: Mapping[str, Any]) -> Plan:
    """Returns the plan that was written as JSON."""
    return Plan(**{**given, "pictures": tuple(Known(**known) for known in given["pictures"])})


def outcome_of(given: Mapping[str, Any]) -> Outcome:
    """Returns the outcome that was written as JSON."""
    return Outcome(
        total=Row(**given["total"]),
        doors=tuple(Row(**row) for row in given["doors"]),
        options=tuple(Row(**row) for row in given["options"]),
        problems=tuple(Problem(**problem) for problem in given["problems"]),
        failures=tuple(given["failures"]),
    )
