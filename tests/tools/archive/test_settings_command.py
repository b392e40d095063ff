"""`scripts/settings.py`: the table, and changes of an archive."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
import yaml

from tests.support.settings import settings
from tools.archive.packaging import FRONTEND
from tools.archive.rewrite import read_config
from tools.archive.settings_command import main


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "m.mar"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(
            "model-config.yaml", yaml.safe_dump({**FRONTEND, "gradcam": settings(max_targets=7).to_mapping()})
        )
        file.writestr("weights.safetensors", b"weights")
        file.comment = b"fingerprint"
    return path


def test_the_table_marks_what_differs_from_the_defaults(archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(archive)]) == 0
    rows = {line[2:].split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert rows["max_targets"].split()[:4] == ["*", "max_targets", "7", "100"]
    assert rows["max_passes"].split()[:4] == ["max_passes", "32", "32", "Maximum"]
    assert rows["minWorkers"].split()[1:3] == ["-", "-"]
    assert rows["architecture"].split()[:3] == ["architecture", "resnet18", "-"]


def test_a_change_keeps_everything_else(archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = read_config(archive)
    assert main([str(archive), "--set", "max_passes=8", "--set", "batchSize=4"]) == 0
    assert capsys.readouterr().out == f"{archive}\n"
    assert read_config(archive) == {**before, "batchSize": 4, "gradcam": {**before["gradcam"], "max_passes": 8}}
    with zipfile.ZipFile(archive) as opened:
        assert opened.read("weights.safetensors") == b"weights"
        assert opened.comment == b"fingerprint"
    assert [path.name for path in archive.parent.iterdir()] == ["m.mar"]


def test_another_archive_may_be_written(archive: Path, tmp_path: Path) -> None:
    content = archive.read_bytes()
    assert main([str(archive), "--set", "max_passes=8", "--output", str(tmp_path / "other.mar")]) == 0
    assert archive.read_bytes() == content
    assert read_config(tmp_path / "other.mar")["gradcam"]["max_passes"] == 8


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("max_passes=0", "settings: gradcam: 'max_passes' must be greater than 0, got 0\n"),
        (
            "num_classes=5",
            "settings: 'num_classes' describes the network in the archive and cannot be set\n",
        ),
    ],
)
def test_an_invalid_change_leaves_the_archive_alone(
    archive: Path, assignment: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    content = archive.read_bytes()
    assert main([str(archive), "--set", assignment]) == 1
    assert capsys.readouterr().err == message
    assert archive.read_bytes() == content


def test_a_file_that_is_no_archive(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "none.mar")]) == 1
    assert "none.mar is not an archive of build_mar.py" in capsys.readouterr().err
