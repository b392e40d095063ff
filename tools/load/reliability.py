"""Break a real TorchServe under load, one fault at a time, and report what its clients saw.

archive → a server for each scenario → ScenarioReport → table, JSON

Each report says whether every request was answered, whether with its own answer, how long it took until the next good
answer, and what leaked. The last scenario is the soak: minutes of saturation with one invalid request in ten.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from gradcam.network.architecture import NetworkError
from tools.archive.build import Build, build_if_needed
from tools.archive.rewrite import reconfigure
from tools.load import scenarios
from tools.load.checking import AmbiguousAnswers
from tools.load.load_target import LoadTarget, load_target
from tools.load.scenario_report import ScenarioReport
from tools.load.scenarios import SECONDS
from tools.load.soak import SOAK_SECONDS, soak
from tools.load.traffic import CLIENTS
from tools.paths import ROOT
from tools.server.errors import ServerError
from tools.server.port_check import free_port
from tools.server.processes import is_alive
from tools.server.server import Server
from tools.server.signals import INTERRUPTED, handle_signals

OUTPUT = ROOT / "build" / "reliability"
QUEUE_SIZE = 8
LOG_DISK_BYTES = 4 * 2**20

console = Console()


class Skipped(Exception):
    """This machine cannot cause the fault."""


Scenario = Callable[[LoadTarget, float], ScenarioReport]
SCENARIOS: dict[str, Scenario] = {
    "worker-killed": scenarios.worker_killed,
    "server-stopped": scenarios.server_terminated,
    "queue-full": scenarios.queue_full,
    "slow-clients": scenarios.slow_clients,
    "clients-gone": scenarios.clients_gone,
    "log-disk-full": scenarios.log_disk_full,
    "memory-short": scenarios.memory_short,
    "memory-exhausted": scenarios.memory_exhausted,
    "soak": soak,
}


@contextmanager
def small_disk() -> Iterator[Path]:
    """Mount a disk of a few megabytes.

    Raises:
        Skipped: this process may not mount disks.
    """
    with tempfile.TemporaryDirectory(prefix="logs-") as folder:
        command = ["mount", "-t", "tmpfs", "-o", f"size={LOG_DISK_BYTES}", "tmpfs", folder]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Skipped(f"Cannot mount a small disk: {done.stderr.strip()}")
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", folder], check=True)


def run(name: str, archive: Path, seconds: float) -> ScenarioReport:
    """Run a scenario on its own server, and add what leaks when that server stops.

    Raises:
        Skipped: this machine cannot cause the fault.
    """
    with ExitStack() as stack:
        logs = stack.enter_context(small_disk()) if name == "log-disk-full" else None
        with Server([archive], free_port(), logs) as server:
            report = SCENARIOS[name](load_target(server, archive.stem), seconds)
            processes, directory = server.processes(), server.directory
    report.leaks.extend(f"process {process.name()} after the stop" for process in processes if is_alive(process))
    report.leaks.extend([f"{directory} after the stop"] if directory.exists() else [])
    return report


def machine() -> dict[str, Any]:
    """Describe the machine on which the figures were measured."""
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "clients": CLIENTS,
        "python": platform.python_version(),
        "threads": os.environ.get("OMP_NUM_THREADS", "one per core"),
    }


def show(reports: Sequence[ScenarioReport]) -> None:
    """Print the reports."""
    table = Table("scenario", "sent", "answered", "rejected", "errors", "wrong", "recovery", "slowest", "leaks")
    for entry in reports:
        table.add_row(
            entry.scenario,
            str(entry.sent),
            str(entry.answered),
            str(entry.rejected),
            "\n".join(f"{count} × {kind}" for kind, count in entry.errors.items()) or "none",
            str(entry.wrong),
            "never" if entry.recovery_seconds is None else f"{entry.recovery_seconds:.1f} s",
            f"{entry.slowest_seconds:.1f} s",
            "\n".join(entry.leaks) or "none",
            end_section=True,
        )
    console.print(table)
    for entry in reports:
        for name, value in entry.figures.items():
            console.print(f"{entry.scenario}, {name.replace('_', ' ')}: {value}", highlight=False, markup=False)


def save(reports: Sequence[ScenarioReport], skipped: Mapping[str, str]) -> Path:
    """Write the record and return its path."""
    path = OUTPUT / f"{datetime.now(timezone.utc):%Y%m%dT%H%M%SZ}.json"
    record = {"machine": machine(), "scenarios": [entry.record() for entry in reports], "skipped": dict(skipped)}
    path.write_text(json.dumps(record, indent=1))
    return path


def run_all(only: str | None, soak_seconds: float) -> int:
    """Run one or all scenarios, print and save their reports, and return the exit status."""
    OUTPUT.mkdir(parents=True, exist_ok=True)
    reports: list[ScenarioReport] = []
    skipped: dict[str, str] = {}
    archive = build_if_needed(Build("resnet18", "random", name="reliability", output=OUTPUT))
    short = reconfigure(archive, OUTPUT / "short_queue.mar", jobQueueSize=QUEUE_SIZE)
    for name in [only] if only else SCENARIOS:
        console.print(f"{name} …")
        try:
            seconds = soak_seconds if name == "soak" else SECONDS
            reports.append(run(name, short if name == "queue-full" else archive, seconds))
        except Skipped as error:
            skipped[name] = str(error)
            console.print(f"skipped: {error}", style="yellow", highlight=False)
    show(reports)
    console.print(f"written to {save(reports, skipped).relative_to(ROOT)}")
    return int(any(entry.wrong or entry.lost or entry.leaks for entry in reports))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status: 1 if an answer was wrong or lost, or something leaked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--soak", type=float, default=SOAK_SECONDS, metavar="SECONDS", help="default: %(default)g")
    parser.add_argument("--only", choices=SCENARIOS, help="run one scenario instead of all")
    options = parser.parse_args(arguments)
    handle_signals()
    try:
        return run_all(options.only, options.soak)
    except (NetworkError, ServerError, AmbiguousAnswers, ConnectionError) as error:
        console.print(f"reliability: {error}", style="red", highlight=False)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
