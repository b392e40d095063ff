"""Breaks a real TorchServe under load, one fault at a time, and reports what its clients saw.

archive → a server for every scenario of `faults.py` → Report → table, JSON

What counts: whether each request was answered, whether with its own answer, how long it took until the next good
answer, and what is left behind. The soak is the last scenario: minutes at saturation with one bad request in ten.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import requests
import yaml
from rich.console import Console
from rich.table import Table

from gradcam.network.architecture import NetworkError
from tools.archive.build import Build, build_if_needed
from tools.archive.packaging import CONFIG_FILE
from tools.load import scenarios as faults
from tools.load.scenarios import SECONDS, SOAK_SECONDS, Report, Service, connect
from tools.load.traffic import CLIENTS, Confusable
from tools.paths import ROOT
from tools.server.errors import ServerError
from tools.server.port_check import free_port
from tools.server.processes import is_alive
from tools.server.server import Server
from tools.server.signals import handle_signals

OUTPUT = ROOT / "build" / "reliability"
QUEUE_SIZE = 8
LOG_DISK_BYTES = 4 * 2**20

console = Console()


class Skipped(Exception):
    """This machine does not allow the fault."""


Scenario = Callable[[Service, float], Report]
SCENARIOS: dict[str, Scenario] = {
    "worker-killed": faults.worker_killed,
    "server-stopped": faults.server_terminated,
    "queue-full": faults.queue_full,
    "slow-clients": faults.slow_clients,
    "clients-gone": faults.clients_gone,
    "log-disk-full": faults.log_disk_full,
    "memory-short": faults.memory_short,
    "memory-exhausted": faults.memory_exhausted,
    "soak": faults.soak,
}


def reconfigured(archive: Path, target: Path, **changes: int) -> Path:
    """Copies an archive with other values for TorchServe in its `model-config.yaml`."""
    with zipfile.ZipFile(archive) as source, zipfile.ZipFile(target, "w") as copy:
        for name in source.namelist():
            content = source.read(name)
            if name == CONFIG_FILE:
                content = yaml.safe_dump({**yaml.safe_load(content), **changes}).encode()
            copy.writestr(name, content)
    return target


@contextmanager
def small_disk() -> Iterator[Path]:
    """Mounts a disk of a few megabytes.

    Raises:
        Skipped: that is not allowed here.
    """
    with tempfile.TemporaryDirectory(prefix="logs-") as folder:
        command = ["mount", "-t", "tmpfs", "-o", f"size={LOG_DISK_BYTES}", "tmpfs", folder]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Skipped(f"a small disk cannot be mounted: {done.stderr.strip()}")
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", folder], check=True)


def run(name: str, archive: Path, seconds: float) -> Report:
    """Runs one scenario on a server of its own, and adds what is left when that is stopped.

    Raises:
        Skipped: this machine does not allow the fault.
    """
    with ExitStack() as stack:
        logs = stack.enter_context(small_disk()) if name == "log-disk-full" else None
        with Server([archive], free_port(), logs) as server:
            done = SCENARIOS[name](connect(server, archive.stem), seconds)
            processes, directory = server.processes(), server.directory
    done.left.extend(f"process {process.name()} after the stop" for process in processes if is_alive(process))
    done.left.extend([f"{directory} after the stop"] if directory.exists() else [])
    return done


def machine() -> dict[str, Any]:
    """Returns where the figures were taken."""
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "clients": CLIENTS,
        "python": platform.python_version(),
        "threads": os.environ.get("OMP_NUM_THREADS", "one a core"),
    }


def show(reports: Sequence[Report]) -> None:
    """Prints the reports for people to read."""
    drawn = Table("scenario", "sent", "answered", "refused", "errors", "wrong", "works again", "slowest", "left")
    for entry in reports:
        drawn.add_row(
            entry.scenario,
            str(entry.sent),
            str(entry.answered),
            str(entry.refused),
            "\n".join(f"{count} × {kind}" for kind, count in entry.errors.items()) or "none",
            str(entry.wrong),
            "never" if entry.recovery_seconds is None else f"{entry.recovery_seconds:.1f} s",
            f"{entry.slowest_seconds:.1f} s",
            "\n".join(entry.left) or "nothing",
            end_section=True,
        )
    console.print(drawn)
    for entry in reports:
        for name, value in entry.figures.items():
            console.print(f"{entry.scenario}, {name.replace('_', ' ')}: {value}", highlight=False, markup=False)


def save(reports: Sequence[Report], skipped: Mapping[str, str]) -> Path:
    """Writes the record and returns its path."""
    path = OUTPUT / f"{datetime.now(timezone.utc):%Y%m%dT%H%M%SZ}.json"
    record = {"machine": machine(), "scenarios": [asdict(entry) for entry in reports], "skipped": dict(skipped)}
    path.write_text(json.dumps(record, indent=1))
    return path


def main() -> int:
    """Runs the command; returns its exit status: 1 where an answer was wrong or lost, or something was left."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--soak", type=float, default=SOAK_SECONDS, metavar="SECONDS", help="default: %(default)g")
    parser.add_argument("--only", choices=SCENARIOS, help="one scenario instead of all")
    options = parser.parse_args()
    handle_signals()
    OUTPUT.mkdir(parents=True, exist_ok=True)
    reports: list[Report] = []
    skipped: dict[str, str] = {}
    try:
        archive = build_if_needed(Build("resnet18", "random", name="reliability", output=OUTPUT))
        short = reconfigured(archive, OUTPUT / "short_queue.mar", jobQueueSize=QUEUE_SIZE)
        for name in [options.only] if options.only else SCENARIOS:
            console.print(f"{name} …")
            try:
                seconds = options.soak if name == "soak" else SECONDS
                reports.append(run(name, short if name == "queue-full" else archive, seconds))
            except Skipped as error:
                skipped[name] = str(error)
                console.print(f"skipped: {error}", style="yellow", highlight=False)
    except (NetworkError, ServerError, Confusable, requests.RequestException) as error:
        console.print(f"reliability: {error}", style="red", highlight=False)
        return 1
    show(reports)
    console.print(f"written to {save(reports, skipped).relative_to(ROOT)}")
    return int(any(entry.wrong or entry.lost or entry.left for entry in reports))
