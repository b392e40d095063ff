"""An archive for the tests of the server life cycle."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def archive(tmp_path: Path) -> Callable[[str], Path]:
    """A function that writes an archive with a given name."""

    def make(name: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("MAR-INF/MANIFEST.json", "{}")
        return path

    return make
