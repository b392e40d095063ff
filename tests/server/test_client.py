"""`scripts/predict.py` as a user runs it, against the real server."""

from __future__ import annotations

import asyncio
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.support import oracles
from tests.support.encoding import Pixels, decoded, encoded
from tests.support.served import HEATMAP_TOLERANCE, Model
from tools.client.answers import Answer
from tools.client.async_client import AsyncClient
from tools.client.client import Client
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
    return script("predict.py", "--url", model.server.inference_url, "--model", model.name, *arguments, cwd=cwd)


def script(name: str, *arguments: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, ROOT / "scripts" / name, *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=120)


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
    assert completed.stdout == ""
    assert completed.stderr.startswith("unknown_class: Unknown label 'tabbi'")
    assert "did you mean 'tabby'" in completed.stderr


def test_unknown_model_is_reported(folder: Path, squash: Model, tmp_path: Path) -> None:
    other = Model(squash.server, "other", squash.network, squash.labels)

    completed = predict(other, folder, "--output", tmp_path / "overlays")

    assert completed.returncode == 1
    assert "no model 'other'" in completed.stderr
    assert "Traceback" not in completed.stderr


def test_a_bundle_is_reproduced_and_another_model_differs(
    folder: Path, squash: Model, crop: Model, tmp_path: Path
) -> None:
    (folder / "bad.png").unlink()
    bundle = tmp_path / "bundle"

    written = predict(squash, "images", "--targets", "281,285", "--bundle", bundle, cwd=tmp_path)

    assert written.returncode == 0, written.stderr
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert manifest["description"]["layer"] == "layer4.1.conv2"
    assert {"engine", "precision", "versions"} <= manifest["description"].keys()
    assert {entry["path"] for entry in manifest["images"]} == {f"images/{name}" for name in SEEDS}
    for entry in manifest["images"]:
        content = (tmp_path / entry["path"]).read_bytes()
        assert entry["sha256"] == hashlib.sha256(content).hexdigest()
        expected = squash.expected(decoded(content), [281, 285])
        for one in entry["maps"]:
            heatmap = np.load(bundle / one["file"])
            assert heatmap.dtype == np.float32
            assert np.abs(heatmap - expected.heatmaps[one["index"]]).max() <= HEATMAP_TOLERANCE
    same = script("reproduce.py", bundle / "manifest.json")
    assert same.returncode == 0, same.stdout + same.stderr
    assert same.stdout.endswith("3 equal within 1e-05, 0 different, 0 cannot be compared\n")
    other = script("reproduce.py", bundle / "manifest.json", "--model", crop.name)
    assert other.returncode == 1, other.stdout + other.stderr
    assert other.stdout.startswith(f"Another model answers: {crop.name} ")
    assert other.stdout.endswith("0 equal within 1e-05, 3 different, 0 cannot be compared\n")


def test_both_clients_receive_the_same(squash: Model) -> None:
    image = encoded(smooth(61), "PNG")
    url = squash.server.inference_url
    with Client(url, squash.name) as client:
        expected = client.explain(image, targets=[281, "Egyptian cat"], overlay="png")

    async def run() -> list[Answer]:
        async with AsyncClient(url, squash.name, connections=3) as client:
            calls = [client.explain(image, targets=[281, "Egyptian cat"], overlay="png") for _ in range(6)]
            return await asyncio.gather(*calls)

    for answer in asyncio.run(run()):
        assert [entry.label for entry in answer.predictions] == [entry.label for entry in expected.predictions]
        for entry, other in zip(answer.explanations, expected.explanations, strict=True):
            assert np.abs(np.array(entry.heatmap) - np.array(other.heatmap)).max() <= HEATMAP_TOLERANCE
            assert (entry.peak, entry.label) == (other.peak, other.label)
            assert entry.overlay is not None
            assert decoded(entry.overlay).shape == (220, 300, 3)
