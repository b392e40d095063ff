"""Clients that send many requests at once and check every answer.

make_requests → record_baseline → Traffic → Outcome

Every image has a unique size, shows something else, and asks for another class; every invalid request is rejected with
a unique message. So each answer belongs to one request only; `record_baseline` verifies that before the load begins.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http import HTTPStatus

from tools.load.answer import torchserve_error
from tools.load.checking import RecordedAnswer
from tools.load.closed_loop import ClosedLoop
from tools.load.connection import Connection, Exchange
from tools.load.request import TestRequest

CLIENTS = 16
PAUSE_SECONDS = 0.5  # of a client after an error; otherwise a failing server would get thousands of requests


@dataclass(frozen=True)
class Outcome:
    """How one request ended.

    Attributes:
        sent: when it was sent, from the clock `time.monotonic`.
        ended: when it ended.
        kind: the status, with the type of TorchServe's own errors, or what happened to the connection.
        good: the response is the baseline's, with status 200 or with the baseline's error.
        wrong: the response belongs to another request.
        message: of an error from TorchServe itself.
    """

    sent: float
    ended: float
    kind: str
    good: bool
    wrong: bool = False
    message: str = ""


class Traffic(ClosedLoop[Outcome]):
    """Clients that send all requests over and over, each in its own order, while the `with` block runs."""

    def __init__(
        self, url: str, requests: Sequence[TestRequest], baseline: Sequence[RecordedAnswer], clients: int = CLIENTS
    ) -> None:
        """Describe the traffic; nothing is sent yet.

        Args:
            url: where requests go.
            requests: sent by every client, over and over.
            baseline: the answer to each request.
            clients: how many there are.
        """
        super().__init__(url, requests, clients)
        self._baseline = baseline

    def order(self, client: int) -> Iterator[int]:
        """Yield all requests over and over, each time in another order."""
        shuffled = random.Random(client)
        while True:
            yield from shuffled.sample(range(len(self._baseline)), len(self._baseline))

    def judge(self, index: int, exchange: Exchange) -> Outcome:
        """Compare a response with the baseline."""
        return judge(exchange, self._baseline[index])

    def pause(self, result: Outcome) -> float:
        """Pause after an error."""
        return 0.0 if result.good else PAUSE_SECONDS

    @property
    def outcomes(self) -> list[Outcome]:
        """How every request ended, in the order in which they ended."""
        return self.results


def send(connection: Connection, request: TestRequest, expected: RecordedAnswer) -> Outcome:
    """Send a request and return how it ended."""
    return judge(connection.post(request), expected)


def judge(exchange: Exchange, expected: RecordedAnswer) -> Outcome:
    """Compare a response with the baseline."""
    if exchange.failure:
        return Outcome(exchange.sent, exchange.ended, exchange.failure, good=False)
    text = exchange.body.decode(errors="replace")
    error = torchserve_error(text) if exchange.status != HTTPStatus.OK else None
    if error is not None:
        kind, message = error
        return Outcome(exchange.sent, exchange.ended, f"{exchange.status} {kind}", good=False, message=message)
    matches = expected.matches(exchange.status, text)
    return Outcome(exchange.sent, exchange.ended, str(exchange.status), good=matches, wrong=not matches)


def good_since(outcomes: Sequence[Outcome], moment: float) -> Iterator[Outcome]:
    """Yield the good outcomes of requests that were sent after a moment."""
    return (outcome for outcome in outcomes if outcome.good and outcome.sent >= moment)
