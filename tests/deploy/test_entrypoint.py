"""The image's entry point with stand-ins for HAProxy, TorchServe and the helpers."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.deploy.test_image_files import copy_files
from tools.server.processes import wait_until

SECONDS = 30
# Each stand-in appends its process to a file, and waits.
STAND_IN = """
import os, signal, sys
with open(os.environ["STARTED"], "a") as file:
    file.write("{name} " + str(os.getpid()) + "\\n")
signal.signal(signal.SIGUSR1, lambda *_: sys.exit(0))
while True:
    signal.pause()
"""


def is_running(pid: int) -> bool:
    """Tell whether a process exists and has not ended."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class EntryPoint:
    """A running entry point."""

    def __init__(self, app: Path, **environment: str) -> None:
        self.started = app / "started"
        self.started.touch()
        self.log = app / "log"
        variables = {
            "PATH": f"{app / 'bin'}:{os.environ['PATH']}",
            "PYTHONPATH": str(app),
            "PYTHONDONTWRITEBYTECODE": "1",
            "STARTED": str(self.started),
            "MODEL_STORE": "/models",
        }
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, app / "entrypoint.py"], env=os.environ | variables | environment, stderr=log
            )

    def entries(self) -> list[list[str]]:
        """Return name and process of each stand-in that has started, in order."""
        return [line.split() for line in self.started.read_text().splitlines(keepends=True) if line.endswith("\n")]

    def all_pids(self) -> list[int]:
        return [int(pid) for _, pid in self.entries()]

    def pids(self, name: str) -> list[int]:
        return [int(pid) for started, pid in self.entries() if started == name]

    def wait_for(self, name: str, count: int = 1) -> int:
        assert wait_until(lambda: len(self.pids(name)) == count, SECONDS), self.log.read_text()
        return self.pids(name)[-1]


Start = Callable[..., EntryPoint]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start the entry point with these variables; the test's end kills what is left."""
    app = image_folder(tmp_path)
    started = []

    def call(**environment: str) -> EntryPoint:
        started.append(EntryPoint(app, **environment))
        return started[-1]

    yield call
    for running in started:
        running.process.kill()
        running.process.wait()
        for pid in running.all_pids():
            if is_running(pid):
                os.kill(pid, signal.SIGKILL)


def image_folder(tmp_path: Path) -> Path:
    """The folder /app with stand-ins for every program that the entry point starts."""
    copy_files("app", tmp_path, "/app")
    app = tmp_path / "app"
    script = app / "entrypoint.py"
    script.write_text(script.read_text().replace("RESTART_PAUSE = 5.0", "RESTART_PAUSE = 0.01"))
    for name in ("kserve_grpc", "lens"):
        shutil.rmtree(app / name)
        write_package(app / name, "__main__", name)
    write_package(app / "ts", "model_server", "torchserve")
    (app / "bin").mkdir()
    (app / "bin" / "haproxy").write_text(f"#!{sys.executable}\n{STAND_IN.format(name='haproxy')}")
    (app / "bin" / "haproxy").chmod(0o755)
    return app


def write_package(folder: Path, module: str, name: str) -> None:
    """Write a package whose module is a stand-in."""
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / f"{module}.py").write_text(STAND_IN.format(name=name))


def test_sigterm_ends_every_process(start: Start) -> None:
    running = start(LENS_PORT="8090")
    pids = [running.wait_for(name) for name in ("haproxy", "torchserve", "kserve_grpc", "lens")]
    running.process.terminate()
    assert running.process.wait(SECONDS) == 0
    assert wait_until(lambda: not any(map(is_running, pids)), SECONDS)
    assert running.log.read_text() == ""


@pytest.mark.parametrize(("name", "title"), [("kserve_grpc", "The gRPC service"), ("lens", "The page")])
def test_helper_is_restarted(start: Start, name: str, title: str) -> None:
    running = start(LENS_PORT="8090")
    running.wait_for("haproxy")
    for count in (1, 2):
        os.kill(running.wait_for(name, count), signal.SIGKILL)
    running.wait_for(name, 3)
    assert running.log.read_text().splitlines() == [f"{title} ended by itself; restarting it"] * 2
    running.process.terminate()
    assert running.process.wait(SECONDS) == 0


def test_page_is_optional(start: Start) -> None:
    running = start()
    for name in ("haproxy", "torchserve", "kserve_grpc"):
        running.wait_for(name)
    running.process.terminate()
    assert running.process.wait(SECONDS) == 0
    assert running.pids("lens") == []


@pytest.mark.parametrize(("name", "title"), [("haproxy", "HAProxy"), ("torchserve", "TorchServe")])
def test_end_of_a_server_ends_the_container(start: Start, name: str, title: str) -> None:
    running = start()
    pids = {other: running.wait_for(other) for other in ("haproxy", "torchserve", "kserve_grpc")}
    os.kill(pids[name], signal.SIGKILL)
    assert running.process.wait(SECONDS) == 1
    assert running.log.read_text() == f"{title} ended by itself\n"
    assert wait_until(lambda: not any(map(is_running, pids.values())), SECONDS)
