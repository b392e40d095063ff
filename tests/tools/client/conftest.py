"""A fake server, an unused URL, and an empty current folder for the tests of the client."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.fake_server import FakeServer, fake_server
from tools import sessions


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with fake_server() as running:
        yield running


@pytest.fixture
def closed_url() -> str:
    """A URL where nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, and retries without a pause."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sessions, "RETRIES", sessions.RETRIES.new(backoff_factor=0))
    return tmp_path
