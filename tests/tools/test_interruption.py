"""Ctrl-C and SIGTERM end the long-running commands with exit status 130."""

from __future__ import annotations

import os
import signal
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


def terminated(*_: object) -> int:
    os.kill(os.getpid(), signal.SIGTERM)
    signal.pause()
    return 0


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
    [(load_test, "run", ["--url", "http://127.0.0.1:1"]), (reliability, "run_all", [])],
)
def test_termination(module: ModuleType, function: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, function, terminated)
    assert module.main(arguments) == 130
