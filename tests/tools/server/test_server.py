"""The parts of the life cycle that need no server; tests/server has the others."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tools import ports
from tools.server.errors import ServerError
from tools.server.port_check import free_port
from tools.server.server import Server


def test_models_are_named_like_their_archives(archive: Callable[[str], Path]) -> None:
    assert Server([archive("cat.mar"), archive("dog-1.5.mar")], ports.INFERENCE).models == ("cat", "dog-1.5")


def test_temporary_folder_too_long_for_sockets(
    archive: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / ("long" * 25)
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    server = Server([archive("cat.mar")], free_port())
    with pytest.raises(ServerError, match="longlong is too long for the sockets of workers: set TMPDIR"):
        server.__enter__()
    assert list(folder.iterdir()) == []
