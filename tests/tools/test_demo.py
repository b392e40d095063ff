"""The demo's exit status; tests/server runs it with a real server."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from gradcam.network.architecture import NetworkError
from tools import demo


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
