"""Ctrl-C and SIGTERM end the long-running commands with exit status 130."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tools.benchmarks import methods
from tools.evaluation import evaluate
from tools.load import load_test, reliability

HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture(autouse=True)
def _restore_signals() -> Iterator[None]:
    handlers = {number: signal.getsignal(number) for number in HANDLED}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


def interrupted(*_: object) -> int:
    raise KeyboardInterrupt


# In a process of its own: libraries that other tests import change how a process handles signals.
TERMINATED = """
import importlib, os, signal, sys

def terminated(*_):
    os.kill(os.getpid(), signal.SIGTERM)
    signal.pause()

module = importlib.import_module(sys.argv[1])
setattr(module, sys.argv[2], terminated)
sys.exit(module.main(sys.argv[3:]))
"""


@pytest.mark.parametrize(
    ("module", "function", "arguments"),
    [
        (load_test, "run", ["--url", "http://127.0.0.1:1"]),
        (reliability, "run_all", []),
        (methods, "run", []),
        (evaluate, "evaluate_archive", [str(Path(__file__).parents[2] / "examples")]),
    ],
)
def test_interrupt(
    module: ModuleType, function: str, arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, function, interrupted)
    assert module.main(arguments) == 130


@pytest.mark.parametrize(
    ("module", "function", "arguments"),
    [
        ("tools.load.load_test", "run", ["--url", "http://127.0.0.1:1"]),
        ("tools.load.reliability", "run_all", []),
    ],
)
def test_termination(module: str, function: str, arguments: list[str]) -> None:
    completed = subprocess.run(
        [sys.executable, "-c", TERMINATED, module, function, *arguments],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert completed.returncode == 130, completed.stderr
