"""The demo's exit status; tests/server runs it with a real server."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from gradcam.network.architecture import NetworkError
from tools import demo
from tools.archive.build import Build
from tools.paths import ROOT


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """Restore the signal handlers that the command installs."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


@pytest.mark.parametrize(("error", "status"), [(KeyboardInterrupt(), 130), (NetworkError("no weights"), 1), (None, 0)])
def test_exit_status(monkeypatch: pytest.MonkeyPatch, error: BaseException | None, status: int) -> None:
    def run(_model: str, _weights: str) -> int:
        if error is not None:
            raise error
        return 0

    monkeypatch.setattr(demo, "run", run)
    assert demo.main([]) == status


def test_an_archive_is_used_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def build(*_: object) -> Path:
        raise AssertionError("nothing is built")

    monkeypatch.setattr(demo, "build_with_fallback", build)
    assert demo.build_archive(str(tmp_path / "mine.mar"), "default") == tmp_path / "mine.mar"


def test_the_model_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[Build] = []

    def build(options: Build, _: object) -> Path:
        built.append(options)
        return Path("resnet50.mar")

    monkeypatch.setattr(demo, "build_with_fallback", build)
    assert demo.build_archive("resnet50", "random") == Path("resnet50.mar")
    assert (built[0].arch, built[0].weights) == ("resnet50", "random")


@pytest.mark.parametrize(
    ("model", "served", "built"), [("resnet50", "model_store/resnet50.mar", True), ("a/b.mar", "a/b.mar", False)]
)
def test_make_serve_builds_architectures_only(model: str, served: str, built: bool) -> None:
    command = ["make", "-n", "serve", f"MODEL={model}", "CORS=https://a.example"]
    commands = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60).stdout
    assert f"scripts/serve.py --port 8080 --cors 'https://a.example' {served}\n" in commands
    assert ("build_mar.py" in commands) is built
