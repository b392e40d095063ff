"""The users of a load test, by Locust: read a `Plan` from standard input, write the `LoadResult` to standard output.

This is its own process because Locust replaces sockets and threads of the whole process before other imports.
"""

from __future__ import annotations

import locust  # isort: skip

import json
import random
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from http import HTTPStatus
from itertools import cycle
from pathlib import Path
from typing import ClassVar

from locust.env import Environment
from locust.html import get_html_report
from locust.runners import LocalRunner
from locust.stats import RequestStats, StatsEntry, stats_history

from tools.load.answer import MalformedAnswer, ParsedAnswer, torchserve_error
from tools.load.checking import Expectation, mismatches
from tools.load.option_sets import OPTION_SETS
from tools.load.plan import LoadResult, Plan, Problem, RecordedImage, RequestStatistics, load_plan
from tools.load.protocols import PROTOCOLS

MAX_MESSAGE_CHARACTERS = 200
SPARE_SECONDS = 5.0  # for the last answers, in addition to a user's timeout


class User(locust.FastHttpUser):
    """Send one request after another, without a pause."""

    plan: ClassVar[Plan]
    images: ClassVar[list[tuple[bytes, ParsedAnswer]]]
    mix: ClassVar[Iterator[tuple[str, str]]]
    sent: ClassVar[int] = 0

    insecure = False
    wait_time = locust.constant(0)

    @classmethod
    def prepare(cls, plan: Plan) -> None:
        """Set the plan of all users."""
        cls.plan = plan
        cls.host = plan.url.rstrip("/")
        cls.network_timeout = cls.connection_timeout = plan.answer_seconds
        cls.images = [(Path(image.path).read_bytes(), reference(image)) for image in plan.images]
        cls.mix = cycle(shuffled(plan))

    @locust.task
    def send(self) -> None:
        """Send the next request of the mix, and check the answer."""
        protocol, option_set = next(self.mix)
        image, recorded = random.choice(self.images)
        expectation = OPTION_SETS[option_set](recorded)
        request = PROTOCOLS[protocol].request(image, expectation.options)
        type(self).sent += 1
        with self.client.post(
            PROTOCOLS[protocol].path(self.plan.model),
            data=request.body,
            headers={**self.plan.headers, **request.headers},
            name=group_name(protocol, option_set),
            catch_response=True,
        ) as response:
            failure = response.request_meta["exception"]
            if failure is not None:
                response.failure(failure_message(response.status_code, response.content, failure))
            elif mismatch := first_mismatch(protocol, response.content, expectation, recorded):
                response.failure(f"wrong answer: {mismatch}")


def reference(image: RecordedImage) -> ParsedAnswer:
    """Return the server's answer about an image while it was idle."""
    return PROTOCOLS[image.protocol].parse(image.answer.encode())


def first_mismatch(protocol: str, body: bytes, expectation: Expectation, recorded: ParsedAnswer) -> str | None:
    """Return what is wrong with an answer, or None."""
    try:
        return next(mismatches(PROTOCOLS[protocol].parse(body), expectation, recorded), None)
    except MalformedAnswer as error:
        return str(error)


def shuffled(plan: Plan) -> list[tuple[str, str]]:
    """Return every pair of a protocol and an option set, as often as their weights say, shuffled.

    In this order, even a short run sends all pairs.
    """
    pairs = [
        (protocol, option_set)
        for protocol, protocol_weight in plan.protocols.items()
        for option_set, option_weight in plan.options.items()
        for _ in range(protocol_weight * option_weight)
    ]
    return random.Random(0).sample(pairs, len(pairs))


def group_name(protocol: str, option_set: str) -> str:
    """Return the name of a pair's requests in the report."""
    return f"{protocol}, {option_set}"


def failure_message(status: int, body: bytes | None, error: Exception) -> str:
    """Return why a request failed."""
    if status < HTTPStatus.BAD_REQUEST:
        return f"connection: {error!r}"
    text = (body or b"").decode(errors="replace")
    server_error = torchserve_error(text)
    return f"{status} {': '.join(server_error) if server_error else text}"[:MAX_MESSAGE_CHARACTERS]


# ----------------------------------------------------------------------------- run


def run(plan: Plan) -> LoadResult:
    """Run the users for the plan's duration, wait for the last answers, and write the report."""
    User.prepare(plan)
    environment = Environment(
        user_classes=[User], host=User.host, stop_timeout=plan.answer_seconds + SPARE_SECONDS, locustfile=__file__
    )
    runner = environment.create_local_runner()
    runner.greenlet.spawn(stats_history, runner)
    runner.start(plan.users, spawn_rate=plan.users)
    time.sleep(plan.seconds)
    runner.stop()
    Path(plan.report).write_text(get_html_report(environment, show_download_link=False), encoding="utf-8")
    return summarize(plan, environment.stats, failures(runner))


def failures(runner: LocalRunner) -> tuple[str, ...]:
    """Return the failures of the load test itself."""
    lost = User.sent - runner.stats.total.num_requests
    raised = [f"{entry['count']} × {entry['msg']}" for entry in runner.exceptions.values()]
    return (*raised, *([f"{lost} requests neither answered nor failed"] if lost else []))


def summarize(plan: Plan, stats: RequestStats, failures: tuple[str, ...]) -> LoadResult:
    """Summarize Locust's statistics."""
    seconds = (stats.last_request_timestamp or stats.start_time) - stats.start_time

    def statistics(name: str, pairs: Iterable[tuple[str, str]]) -> RequestStatistics:
        summed = StatsEntry(stats, name, "")
        for pair in pairs:
            summed.extend(stats.get(group_name(*pair), "POST"))
        return RequestStatistics(
            name=name,
            requests=summed.num_requests,
            errors=summed.num_failures,
            per_second=summed.num_requests / seconds if seconds else 0.0,
            median=summed.median_response_time,
            p95=summed.get_response_time_percentile(0.95),
            p99=summed.get_response_time_percentile(0.99),
            slowest=summed.max_response_time,
        )

    pairs = [(protocol, option_set) for protocol in plan.protocols for option_set in plan.options]
    return LoadResult(
        total=statistics("all", pairs),
        protocols=tuple(statistics(name, [pair for pair in pairs if pair[0] == name]) for name in plan.protocols),
        options=tuple(statistics(name, [pair for pair in pairs if pair[1] == name]) for name in plan.options),
        problems=tuple(Problem(entry.name, str(entry.error), entry.occurrences) for entry in stats.errors.values()),
        failures=failures,
    )


def main() -> None:
    """Run the plan from standard input."""
    json.dump(asdict(run(load_plan(json.load(sys.stdin)))), sys.stdout)


if __name__ == "__main__":
    main()
