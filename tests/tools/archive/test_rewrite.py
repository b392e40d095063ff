"""Copies of archives with changes."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from tools.archive.rewrite import read_config, reconfigure, rewrite

CONFIG = b"batchSize: 8\nmaxBatchDelay: 1\ngradcam:\n  layer: a\n"


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "m.mar"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("model-config.yaml", CONFIG)
        file.writestr("a.py", b"a")
        file.writestr("b.py", b"b")
    return path


def contents(archive: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(archive) as opened:
        assert len(opened.namelist()) == len(set(opened.namelist()))
        return {name: opened.read(name) for name in opened.namelist()}


def test_files_are_replaced_left_out_and_added(archive: Path, tmp_path: Path) -> None:
    target = tmp_path / "copy.mar"
    assert rewrite(archive, target, {"a.py": b"new", "b.py": None, "c.py": b"c"}) == target
    assert contents(target) == {"model-config.yaml": CONFIG, "a.py": b"new", "c.py": b"c"}
    assert contents(archive) == {"model-config.yaml": CONFIG, "a.py": b"a", "b.py": b"b"}


def test_settings_of_torchserve_are_replaced(archive: Path, tmp_path: Path) -> None:
    changed = reconfigure(archive, tmp_path / "copy.mar", batchSize=1, responseTimeout=9)
    assert read_config(changed) == {
        "batchSize": 1,
        "maxBatchDelay": 1,
        "gradcam": {"layer": "a"},
        "responseTimeout": 9,
    }
    assert contents(changed)["a.py"] == b"a"
