"""`scripts/predict.py` as a user runs it, against the real server."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.support import oracles
from tests.support.encoding import Pixels, decoded, encoded
from tests.support.served import Model
from tools.paths import ROOT

SEEDS = {"a.png": 51, "b.jpg": 52, "deep/er/c d.webp": 53}


def smooth(seed: int) -> Pixels:
    """Return an image that JPEG hardly changes."""
    return np.asarray(oracles.seeded_image(300, 220, seed).resize((60, 44)).resize((300, 220)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with three images and a text file named like an image."""
    for name, seed in SEEDS.items():
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(smooth(seed), {".png": "PNG", ".jpg": "JPEG", ".webp": "WEBP"}[path.suffix]))
    (tmp_path / "images" / "bad.png").write_text("not an image")
    return tmp_path / "images"


def predict(model: Model, *arguments: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, ROOT / "scripts" / "predict.py", "--url", model.server.inference_url]
    return subprocess.run(
        [*command, "--model", model.name, *arguments], cwd=cwd, capture_output=True, text=True, check=False, timeout=120
    )


def test_folder_with_a_bad_file_fails_only_for_that_file(folder: Path, squash: Model, tmp_path: Path) -> None:
    output = tmp_path / "overlays"

    completed = predict(squash, folder, "--output", output, "--targets", "281,Egyptian cat")

    assert completed.returncode == 1, completed.stderr
    assert "Traceback" not in completed.stderr
    assert "bad.png" in completed.stdout
    assert "undecodable_image" in completed.stdout
    targets = {
        f"{name.rpartition('.')[0]}.{target}.jpg": (name, int(target.partition("-")[0]))
        for name in SEEDS
        for target in ("281-tabby", "285-egyptian-cat")
    }
    written = {path.relative_to(output).as_posix() for path in output.rglob("*") if path.is_file()}
    assert written == set(targets)
    for file, (name, index) in targets.items():
        pixels = decoded((folder / name).read_bytes())
        expected = squash.expected(pixels, [index])
        drawn = decoded((output / file).read_bytes())
        overlay = oracles.overlay(pixels, expected.heatmaps[index])[:, :, ::-1]
        assert np.abs(drawn.astype(int) - overlay).mean() < 2
        assert f"{expected.probabilities.max():.2%}" in completed.stdout
        assert squash.labels[int(expected.probabilities.argmax())] in completed.stdout


def test_photograph_with_published_weights(folder: Path, efficientnet: Model, tmp_path: Path) -> None:
    photograph = ROOT / "examples" / "chelsea.jpg"

    completed = predict(efficientnet, photograph, "--output", tmp_path / "overlays", "--topk", "2")

    assert completed.returncode == 0, completed.stderr
    assert "285 Egyptian cat" in completed.stdout
    pixels = decoded(photograph.read_bytes())
    drawn = decoded((tmp_path / "overlays" / "chelsea.285-egyptian-cat.jpg").read_bytes())
    overlay = oracles.overlay(pixels, efficientnet.expected(pixels, [285]).heatmaps[285])[:, :, ::-1]
    assert np.abs(drawn.astype(int) - overlay).mean() < 2


def test_unknown_class_gets_a_suggestion(folder: Path, squash: Model, tmp_path: Path) -> None:
    completed = predict(squash, "a.png", "--output", tmp_path / "overlays", "--targets", "tabbi", cwd=folder)

    assert completed.returncode == 1
    # The table wraps long messages.
    assert "did you mean 'tabby'" in " ".join(re.findall(r"[^\s│]+", completed.stdout))
    assert "Traceback" not in completed.stderr


def test_unknown_model_is_reported(folder: Path, squash: Model, tmp_path: Path) -> None:
    other = Model(squash.server, "other", squash.network, squash.labels)

    completed = predict(other, folder, "--output", tmp_path / "overlays")

    assert completed.returncode == 1
    assert "no model 'other'" in completed.stderr
    assert "Traceback" not in completed.stderr
