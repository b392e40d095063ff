"""The users of a load test, by Locust: reads a `Plan` from standard input and writes the `Outcome` to standard output.

A process of its own: Locust replaces the sockets and threads of the whole process, before anything else is imported.
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

from tools.load.plan import Known, Outcome, Plan, Problem, Row, plan_of
from tools.load.protocols import DOORS, OPTIONS, Malformed, Seen, Wanted, wrong
from tools.load.traffic import torchserve_error

LONGEST_MESSAGE = 200
SPARE_SECONDS = 5.0  # for the last answers, over what a user waits


class User(locust.FastHttpUser):
    """Asks one question after the other, without a pause."""

    plan: ClassVar[Plan]
    pictures: ClassVar[list[tuple[bytes, Seen]]]
    mix: ClassVar[Iterator[tuple[str, str]]]
    sent: ClassVar[int] = 0

    insecure = False
    wait_time = locust.constant(0)

    @classmethod
    def prepare(cls, plan: Plan) -> None:
        """Gives all users their plan."""
        cls.plan = plan
        cls.host = plan.url.rstrip("/")
        cls.network_timeout = cls.connection_timeout = plan.answer_seconds
        cls.pictures = [(Path(known.path).read_bytes(), recall(known)) for known in plan.pictures]
        cls.mix = cycle(shuffled(plan))

    @locust.task
    def ask(self) -> None:
        """Sends the next question of the mix, and judges the answer."""
        door, option = next(self.mix)
        picture, known = random.choice(self.pictures)
        wanted = OPTIONS[option](known)
        question = DOORS[door].ask(picture, wanted.options)
        type(self).sent += 1
        with self.client.post(
            DOORS[door].path(self.plan.model),
            data=question.body,
            headers={**self.plan.headers, **question.headers},
            name=name_of(door, option),
            catch_response=True,
        ) as response:
            failure = response.request_meta["exception"]
            if failure is not None:
                response.failure(refusal(response.status_code, response.content, failure))
            elif flaw := judged(door, response.content, wanted, known):
                response.failure(f"wrong answer: {flaw}")


def recall(known: Known) -> Seen:
    """Returns what the server said about a picture."""
    return DOORS[known.door].read(known.answer.encode())


def judged(door: str, answer: bytes, wanted: Wanted, known: Seen) -> str | None:
    """Returns what is wrong with an answer, or None."""
    try:
        return wrong(DOORS[door].read(answer), wanted, known)
    except Malformed as error:
        return str(error)


def shuffled(plan: Plan) -> list[tuple[str, str]]:
    """Returns every pair of a door and options, as often as their weights say: short runs have them all, too."""
    pairs = [
        (door, option)
        for door, of_door in plan.doors.items()
        for option, of_option in plan.options.items()
        for _ in range(of_door * of_option)
    ]
    return random.Random(0).sample(pairs, len(pairs))


def name_of(door: str, option: str) -> str:
    """Returns what the report calls the requests of a pair."""
    return f"{door}, {option}"


def refusal(status: int, said: bytes | None, error: Exception) -> str:
    """Returns why a request has no answer."""
    if status < HTTPStatus.BAD_REQUEST:
        return f"connection: {error!r}"
    text = (said or b"").decode(errors="replace")
    own = torchserve_error(text)
    return f"{status} {': '.join(own) if own else text}"[:LONGEST_MESSAGE]


# ----------------------------------------------------------------------------- run


def run(plan: Plan) -> Outcome:
    """Lets the users ask for as long as the plan says, waits for the last answers, and writes the report."""
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
    return outcome(plan, environment.stats, failures(runner))


def failures(runner: LocalRunner) -> tuple[str, ...]:
    """Returns what is no error of the server's."""
    lost = User.sent - runner.stats.total.num_requests
    raised = [f"{entry['count']} × {entry['msg']}" for entry in runner.exceptions.values()]
    return (*raised, *([f"{lost} requests neither answered nor failed"] if lost else []))


def outcome(plan: Plan, stats: RequestStats, failures: tuple[str, ...]) -> Outcome:
    """Sums up Locust's figures."""
    seconds = (stats.last_request_timestamp or stats.start_time) - stats.start_time

    def row(name: str, pairs: Iterable[tuple[str, str]]) -> Row:
        summed = StatsEntry(stats, name, "")
        for pair in pairs:
            summed.extend(stats.get(name_of(*pair), "POST"))
        return Row(
            name=name,
            requests=summed.num_requests,
            errors=summed.num_failures,
            per_second=summed.num_requests / seconds if seconds else 0.0,
            median=summed.median_response_time,
            p95=summed.get_response_time_percentile(0.95),
            p99=summed.get_response_time_percentile(0.99),
            slowest=summed.max_response_time,
        )

    pairs = [(door, option) for door in plan.doors for option in plan.options]
    return Outcome(
        total=row("all", pairs),
        doors=tuple(row(door, [pair for pair in pairs if pair[0] == door]) for door in plan.doors),
        options=tuple(row(option, [pair for pair in pairs if pair[1] == option]) for option in plan.options),
        problems=tuple(Problem(entry.name, str(entry.error), entry.occurrences) for entry in stats.errors.values()),
        failures=failures,
    )


def main() -> None:
    """Runs the plan that comes on standard input."""
    json.dump(asdict(run(plan_of(json.load(sys.stdin)))), sys.stdout)


if __name__ == "__main__":
    main()
