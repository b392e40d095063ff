"""The plan and the result of a load test, which its two processes exchange as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class RecordedImage:
    """An image, and the server's answer about it while it was idle, in one of the protocols."""

    path: str
    protocol: str
    answer: str


@dataclass(frozen=True)
class Plan:
    """What the users send, and for how long.

    Attributes:
        url: the server's root.
        model: its name.
        headers: of every request.
        images: to send.
        protocols: their weights in the mix, by name.
        options: the weights of the option sets, by name.
        users: how many send requests at once.
        seconds: how long they do.
        answer_seconds: how long a user waits for an answer.
        report: where the HTML report is written.
    """

    url: str
    model: str
    headers: Mapping[str, str]
    images: tuple[RecordedImage, ...]
    protocols: Mapping[str, int]
    options: Mapping[str, int]
    users: int
    seconds: float
    answer_seconds: float
    report: str


@dataclass(frozen=True)
class RequestStatistics:
    """Statistics of a group of requests; times are in milliseconds and include failed requests."""

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
        """The share of failed requests."""
        return self.errors / self.requests if self.requests else 1.0


@dataclass(frozen=True)
class Problem:
    """An error message and how many requests of a group got it."""

    name: str
    message: str
    count: int


@dataclass(frozen=True)
class LoadResult:
    """The result of a load test.

    Attributes:
        total: statistics of all requests.
        protocols: of each protocol.
        options: of each option set.
        problems: what the errors were.
        failures: what went wrong in the load test itself; its statistics are invalid then.
    """

    total: RequestStatistics
    protocols: tuple[RequestStatistics, ...]
    options: tuple[RequestStatistics, ...]
    problems: tuple[Problem, ...]
    failures: tuple[str, ...]


def load_plan(document: Mapping[str, Any]) -> Plan:
    """Return the plan of a JSON document."""
    return Plan(**{**document, "images": tuple(RecordedImage(**image) for image in document["images"])})


def load_result(document: Mapping[str, Any]) -> LoadResult:
    """Return the result of a JSON document."""
    return LoadResult(
        total=RequestStatistics(**document["total"]),
        protocols=tuple(RequestStatistics(**group) for group in document["protocols"]),
        options=tuple(RequestStatistics(**group) for group in document["options"]),
        problems=tuple(Problem(**problem) for problem in document["problems"]),
        failures=tuple(document["failures"]),
    )
