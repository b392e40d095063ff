"""The example clients on exported files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support import oracles
from tests.support.exported import LABELS
from tests.tools.export.test_command import SUFFIXES, run
from tools.paths import ROOT

EXAMPLES = ROOT / "examples" / "export"


@pytest.mark.parametrize(("file_format", "name"), [("onnx", "with_onnxruntime.py"), ("openvino", "with_openvino.py")])
def test_example(file_format: str, name: str, archive: Path, tmp_path: Path) -> None:
    assert run(archive, tmp_path, "--format", file_format) == 0
    oracles.seeded_image(120, 90, 3).save(tmp_path / "image.png")
    paths = [tmp_path / f"tiny{SUFFIXES[file_format]}", tmp_path / "image.png", tmp_path / "overlay.png"]
    command = [sys.executable, str(EXAMPLES / name), *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stderr
    lines = [line.rsplit(": ", 1) for line in done.stdout.splitlines()]
    assert len({label for label, _ in lines}) == 3
    assert {label for label, _ in lines} <= set(LABELS)
    probabilities = [float(probability) for _, probability in lines]
    assert probabilities == sorted(probabilities, reverse=True)
    with Image.open(tmp_path / "image.png") as before, Image.open(tmp_path / "overlay.png") as after:
        difference = np.asarray(after).astype(int) - np.asarray(before)
    assert after.size == (120, 90)
    assert difference[..., 0].max() > 20
    assert (difference[..., 1:] <= 0).all()


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_examples_are_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 32
