"""Loads a server with questions of all kinds, checks every answer, and fails where it is too slow or wrong.

    scripts/load_test.py [--url http://HOST:PORT] [--model resnet18] [--users 8] [--duration 30] [--pictures examples]

server → learn → Plan → users (Locust, in a process of its own) → Outcome → table, HTML report, exit status

Without `--url` it starts a server of its own. What is right is what the server says about each picture beforehand,
when it has nothing else to do: an answer with other labels, other maps or of another picture counts as an error.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path

import requests
from PIL import Image
from rich.console import Console
from rich.table import Table

from gradcam.network.architecture import NetworkError
from tools.archive.build import Build, build_if_needed
from tools.client.answers import response_error
from tools.client.arguments import server_url
from tools.client.files import find_images
from tools.client.table import printable
from tools.load.plan import Known, Outcome, Plan, outcome_of
from tools.load.protocols import DOORS, OPTIONS, Door, Malformed, Wanted, wrong
from tools.load.traffic import session
from tools.paths import ROOT
from tools.server.errors import ServerError
from tools.server.port_check import free_port
from tools.server.server import Server

OUTPUT = ROOT / "build" / "load-test"
EXAMPLES = ROOT / "examples"
USERS = "tools.load.users"
MOST_PICTURES = 64
MOST_WEIGHT = 100
ANSWER_SECONDS = 60.0  # TorchServe's own limit, for an archive that was built here
COLUMNS = ("requests", "errors", "per second", "median", "p95", "p99", "slowest")

console = Console()


class LoadTestError(Exception):
    """There is nothing to be measured."""


# ----------------------------------------------------------------------------- server


@contextmanager
def local_server(model: str) -> Iterator[str]:
    """Serves an architecture with random weights, which are as fast as any, and yields the server's root."""
    archive = build_if_needed(Build(model, "random", output=OUTPUT))
    logs = OUTPUT / "logs"
    console.print(f"Starting TorchServe, logs in {os.path.relpath(logs)}", highlight=False, markup=False)
    with Server([archive], free_port(), logs) as server:
        yield server.inference_url


def learn(url: str, model: str, headers: Mapping[str, str], door: str, pictures: Sequence[Path]) -> tuple[Known, ...]:
    """Asks for each picture's classes and their maps, one after the other.

    Raises:
        LoadTestError: the server cannot be reached, or does not answer as it should even now.
    """
    known = []
    with session() as alone:
        alone.headers.update(headers)
        for path in pictures:
            try:
                known.append(learn_one(alone, f"{url.rstrip('/')}{DOORS[door].path(model)}", door, path))
            except requests.ConnectionError as error:
                raise LoadTestError(f"no server answers at {url}: {error}") from error
            except (requests.RequestException, Malformed, OSError) as error:
                raise LoadTestError(f"{path}: {error}") from error
    return tuple(known)


def learn_one(alone: requests.Session, address: str, door: str, path: Path) -> Known:
    """Asks for one picture's classes, and then for the maps of them all.

    Raises:
        Malformed: the two answers do not go together.
    """
    picture = path.read_bytes()
    first = DOORS[door].read(ask(alone, address, DOORS[door], picture, {}))
    if not first.explained or not is_size_of(path, first.size):
        raise Malformed("this is not the answer to the picture: no class explained, or another size")
    classes = tuple(entry.index for entry in first.predictions)
    answer = ask(alone, address, DOORS[door], picture, {"targets": ",".join(map(str, classes))})
    known = DOORS[door].read(answer)
    flaw = wrong(known, Wanted(classes=classes), first) or wrong(first, Wanted(), known)
    if flaw is not None:
        raise Malformed(f"wrong even when nothing else is asked: {flaw}")
    return Known(str(path.resolve()), door, answer.decode())


def is_size_of(path: Path, size: tuple[int, int] | None) -> bool:
    """Tells whether the picture has this size, either way round: EXIF may say that it is to be turned."""
    with Image.open(path) as picture:
        return size is None or sorted(size) == sorted(picture.size)


def ask(alone: requests.Session, address: str, door: Door, picture: bytes, options: Mapping[str, str]) -> bytes:
    """Returns the answer to a question.

    Raises:
        Malformed: it is an error.
    """
    question = door.ask(picture, options)
    response = alone.post(address, data=question.body, headers=question.headers, timeout=ANSWER_SECONDS)
    if not response.ok:
        raise Malformed(str(response_error(response)))
    return response.content


# ----------------------------------------------------------------------------- load


def load(plan: Plan) -> Outcome:
    """Runs the users and returns what came of it.

    Raises:
        LoadTestError: their process failed.
    """
    with console.status(f"{plan.users} users ask {plan.url} for {plan.seconds:g} s …"):
        done = subprocess.run(
            [sys.executable, "-m", USERS],
            input=json.dumps(asdict(plan)),
            stdout=subprocess.PIPE,
            text=True,
            check=False,
            start_new_session=True,  # a Ctrl-C in the terminal is for this program alone
        )
    if done.returncode != 0:
        raise LoadTestError(f"the process of the users ended with {done.returncode}")
    return outcome_of(json.loads(done.stdout))


# ----------------------------------------------------------------------------- result


def exceeded(outcome: Outcome, max_p95: float, max_error_rate: float) -> list[str]:
    """Returns why the test is failed, a line for each reason."""
    total = outcome.total
    reasons = list(outcome.failures)
    if not total.requests:
        reasons.append("no request was answered")
    if total.p95 > max_p95:
        reasons.append(f"p95 {total.p95:.0f} ms is over --max-p95 {max_p95:g} ms")
    if total.errors > max_error_rate * total.requests:
        reasons.append(
            f"error rate {total.error_rate:.2%} ({total.errors} of {total.requests}) "
            f"is over --max-error-rate {max_error_rate:.2%}"
        )
    return reasons


def show(outcome: Outcome) -> None:
    """Prints figures and errors for people to read."""
    drawn = Table("", *COLUMNS, caption="times in milliseconds")
    for group in (outcome.doors, outcome.options, (outcome.total,)):
        for row in group:
            times = (row.median, row.p95, row.p99, row.slowest)
            drawn.add_row(
                row.name,
                str(row.requests),
                str(row.errors),
                f"{row.per_second:.1f}",
                *(f"{time:.0f}" for time in times),
            )
        drawn.add_section()
    console.print(drawn)
    for problem in sorted(outcome.problems, key=lambda entry: -entry.count):
        console.print(printable(f"{problem.count} × {problem.name}: {problem.message}"), markup=False, highlight=False)


# ----------------------------------------------------------------------------- command


def mix(text: str, known: Iterable[str]) -> dict[str, int]:
    """Reads names and their weights, `raw=3,form`."""
    weights: dict[str, int] = {}
    for entry in text.split(","):
        name, _, weight = (part.strip() for part in entry.partition("="))
        if name not in known:
            raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(known)}")
        if not (weight or "1").isdecimal() or not 0 < int(weight or "1") <= MOST_WEIGHT:
            raise argparse.ArgumentTypeError(f"{entry!r}: a weight is a whole number from 1 to {MOST_WEIGHT}")
        weights[name] = int(weight or "1")
    return weights


def header(text: str) -> tuple[str, str]:
    """Reads `Name: value`."""
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise argparse.ArgumentTypeError(f"{text!r} is no header; write 'Authorization: Bearer …'")
    return name.strip(), value.strip()


def above_zero(kind: Callable[[str], float]) -> Callable[[str], float]:
    """Returns a reader of numbers above 0."""

    def number(text: str) -> float:
        value = kind(text)
        if not 0 < value < math.inf:
            raise ValueError
        return value

    return number


def share(text: str) -> float:
    """Reads a number from 0 to 1."""
    value = float(text)
    if not 0 <= value <= 1:
        raise ValueError
    return value


def argument_parser() -> argparse.ArgumentParser:
    """Describes the command line."""
    parser = argparse.ArgumentParser(
        description="Loads a server with questions of all kinds, checks every answer, and fails where it is too slow "
        "or wrong.",
        epilog="Exit status: 0 within the limits, 1 not, or no server, 2 wrong usage.",
    )
    parser.add_argument("--url", type=server_url, help="the server; one of its own if not given")
    parser.add_argument("--model", default="resnet18", help="the model's name, or its architecture without --url")
    parser.add_argument("--users", type=above_zero(int), default=8, help="who ask at once (default: %(default)s)")
    parser.add_argument(
        "--duration", type=above_zero(float), default=30, metavar="SECONDS", help="default: %(default)s"
    )
    parser.add_argument("--pictures", type=Path, default=EXAMPLES, metavar="FOLDER", help="default: examples")
    for name, known in (("--doors", DOORS), ("--options", OPTIONS)):
        names = ",".join(known)
        reader = partial(mix, known=known)
        parser.add_argument(name, type=reader, default=names, metavar="NAME=WEIGHT,…", help="default: %(default)s")
    parser.add_argument("--header", type=header, action="append", default=[], help="of every request, 'Name: value'")
    parser.add_argument(
        "--max-p95", type=above_zero(float), default=2000, metavar="MS", help="more fails (default: %(default)s)"
    )
    parser.add_argument(
        "--max-error-rate",
        type=share,
        default=0,
        metavar="SHARE",
        help="from 0 to 1, more fails (default: %(default)s)",
    )
    parser.add_argument(
        "--report", type=Path, default=OUTPUT / "report.html", help="default: build/load-test/report.html"
    )
    return parser


def run(given: argparse.Namespace, url: str) -> int:
    """Learns the answers, runs the load, reports, and returns the exit status."""
    pictures = [picture.path for picture in find_images([given.pictures], given.report.parent)]
    if len(pictures) > MOST_PICTURES:
        console.print(f"The first {MOST_PICTURES} of {len(pictures)} pictures are asked about.")
    headers = dict(given.header)
    given.report.parent.mkdir(parents=True, exist_ok=True)
    plan = Plan(
        url=url,
        model=given.model,
        headers=headers,
        pictures=learn(url, given.model, headers, next(iter(given.doors)), pictures[:MOST_PICTURES]),
        doors=given.doors,
        options=given.options,
        users=given.users,
        seconds=given.duration,
        answer_seconds=ANSWER_SECONDS,
        report=str(given.report),
    )
    outcome = load(plan)
    show(outcome)
    console.print(f"report: {given.report}", highlight=False, markup=False, soft_wrap=True)
    reasons = exceeded(outcome, given.max_p95, given.max_error_rate)
    for reason in reasons:
        print(f"load_test: {reason}", file=sys.stderr)
    return int(bool(reasons))


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    given = argument_parser().parse_args(arguments)
    try:
        if importlib.util.find_spec("locust") is None:
            raise LoadTestError("Locust is not installed; `make load-test` does it, or scripts/environment.py load")
        with nullcontext(given.url) if given.url else local_server(given.model) as url:
            return run(given, url)
    except (LoadTestError, NetworkError, OSError, ServerError) as error:
        print(f"load_test: {printable(str(error))}", file=sys.stderr)
        return 1
