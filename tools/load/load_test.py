"""Load a server with all kinds of requests, check every answer, and fail if the server is too slow or wrong.

server → Recorder → Plan → users (Locust, in its own process) → LoadResult → table, HTML report, exit status

Without `--url`, the load test starts a server. Before the load, it requests every image once from the idle server; an
answer under load with other labels, heatmaps, or sizes than then counts as an error.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict

from rich.console import Console

from gradcam.network.architecture import NetworkError
from tools.archive.build import Build, build_if_needed
from tools.client.files import find_images
from tools.client.table import printable
from tools.load.baseline import BaselineError, Recorder
from tools.load.load_arguments import argument_parser
from tools.load.load_summary import exceeded_limits, show
from tools.load.plan import LoadResult, Plan, load_result
from tools.paths import BUILD, ROOT
from tools.server.errors import ServerError
from tools.server.port_check import free_port
from tools.server.server import Server
from tools.server.signals import INTERRUPTED, handle_signals

OUTPUT = BUILD / "load-test"
USERS_MODULE = "tools.load.users"
MAX_IMAGES = 64
ANSWER_SECONDS = 60.0  # TorchServe's limit for archives that this project builds

console = Console()


class LoadTestError(Exception):
    """The load test cannot run."""


@contextmanager
def local_server(model: str) -> Iterator[str]:
    """Serve an architecture with random weights, which are as fast as trained ones; yield the server's root."""
    archive = build_if_needed(Build(model, "random", output=OUTPUT))
    logs = OUTPUT / "logs"
    console.print(f"Starting TorchServe, logs in {os.path.relpath(logs)}", highlight=False, markup=False)
    with Server([archive], free_port(), logs) as server:
        yield server.inference_url


def load(plan: Plan) -> LoadResult:
    """Run the users in their own process and return the result.

    Raises:
        LoadTestError: their process failed.
    """
    with console.status(f"{plan.users} users send requests to {plan.url} for {plan.seconds:g} s …"):
        process = subprocess.run(
            [sys.executable, "-m", USERS_MODULE],
            input=json.dumps(asdict(plan)),
            cwd=ROOT,  # -m imports from here first; a folder of the user may contain another `tools`
            stdout=subprocess.PIPE,
            text=True,
            check=False,
            start_new_session=True,  # Ctrl-C in the terminal reaches only this process
        )
    if process.returncode != 0:
        raise LoadTestError(f"The users' process ended with exit status {process.returncode}")
    return load_result(json.loads(process.stdout))


def run(options: argparse.Namespace, url: str) -> int:
    """Record the baseline, run the load, report, and return the exit status."""
    paths = [image.path for image in find_images([options.images], options.report.parent)]
    if len(paths) > MAX_IMAGES:
        console.print(f"Using the first {MAX_IMAGES} of {len(paths)} images.")
    headers = dict(options.header)
    options.report.parent.mkdir(parents=True, exist_ok=True)
    recorder = Recorder(url, options.model, headers, next(iter(options.protocols)), ANSWER_SECONDS)
    plan = Plan(
        url=url,
        model=options.model,
        headers=headers,
        images=recorder.record(paths[:MAX_IMAGES]),
        protocols=options.protocols,
        options=options.options,
        users=options.users,
        seconds=options.duration,
        answer_seconds=ANSWER_SECONDS,
        report=str(options.report.absolute()),
    )
    result = load(plan)
    show(result, console)
    console.print(f"report: {options.report}", highlight=False, markup=False, soft_wrap=True)
    reasons = exceeded_limits(result, options.max_p95, options.max_error_rate)
    for reason in reasons:
        print(f"load_test: {reason}", file=sys.stderr)
    return int(bool(reasons))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    options = argument_parser(OUTPUT / "report.html").parse_args(arguments)
    handle_signals()
    try:
        if importlib.util.find_spec("locust") is None:
            raise LoadTestError("Locust is not installed; run `make load-test` or `scripts/environment.py load`")
        with nullcontext(options.url) if options.url else local_server(options.model) as url:
            return run(options, url)
    except (BaselineError, LoadTestError, NetworkError, OSError, ServerError) as error:
        print(f"load_test: {printable(str(error))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
