"""Bundles of `predict.py --bundle`, and what `reproduce.py` says about them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gradcam import __version__
from tests.support.fake_server import CAT, CUP, DOG, UNDECODABLE, FakeServer, answer, explained
from tools.client import predict, reproduce

MODEL = {"name": "resnet18", "version": "1.0", "weights": "0123456789ab"}
DESCRIPTION = {"layer": "layer4", "engine": "eager", "precision": "float32", "labels": ["tabby"], "layers": ["conv1"]}


def reply(**changes: Any) -> dict[str, Any]:
    entry = explained(CAT, b"overlay", heatmap=[[0.25, 1.0], [0.0, 0.5]], strength=2.0)
    return {**answer({**entry, **changes}), "model": MODEL}


@pytest.fixture
def bundle(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> Path:
    """A bundle of one image."""
    server.reply = lambda request: (200, reply())
    server.description = DESCRIPTION
    Path("cat.jpg").write_bytes(b"image")
    assert write(server) == 0
    capsys.readouterr()
    server.requests.clear()
    return Path("bundle", "manifest.json")


def write(server: FakeServer, *arguments: str) -> int:
    options = ["--explain", "1", "--method", "layercam", "--management-url", server.url]
    return predict.main(["cat.jpg", "--url", server.url, "--bundle", "bundle", *options, *arguments])


def test_a_bundle_has_everything(bundle: Path, server: FakeServer, folder: Path) -> None:
    manifest = json.loads(bundle.read_text(encoding="utf-8"))
    assert manifest.pop("created").endswith("+00:00")
    map_file = Path("bundle", "cat.281-tabby.npy")
    entry = {**CAT, "evidence": True, "peak": [412, 130], "strength": 2.0}
    assert manifest == {
        "format": 1,
        "tool": {"name": "gradcam-serving", "version": __version__},
        "folder": str(folder),
        "server": {"url": server.url, "model": "resnet18", "version": None},
        "options": {"explain": 1, "method": "layercam", "overlay": "jpeg"},
        "description": {"layer": "layer4", "engine": "eager", "precision": "float32"},
        "model": MODEL,
        "images": [
            {
                "path": "cat.jpg",
                "sha256": hashlib.sha256(b"image").hexdigest(),
                "answer": {**answer(entry), "model": MODEL},
                "maps": [
                    {
                        "index": 281,
                        "file": "cat.281-tabby.npy",
                        "sha256": hashlib.sha256(map_file.read_bytes()).hexdigest(),
                    }
                ],
                "overlays": ["cat.281-tabby.jpg"],
            }
        ],
    }
    heatmap = np.load(map_file)
    assert heatmap.dtype == np.float32
    assert heatmap.tolist() == [[0.25, 1.0], [0.0, 0.5]]
    assert Path("bundle", "cat.281-tabby.jpg").read_bytes() == b"overlay"


def test_a_run_that_ends_early_leaves_no_manifest(bundle: Path, server: FakeServer) -> None:
    server.reply = lambda request: (422, {"error": {"code": "unknown_method", "message": "no"}})
    assert write(server) == 1
    assert not bundle.exists()


def test_without_the_management_api_the_description_is_missing(
    server: FakeServer, closed_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    server.reply = lambda request: (400, UNDECODABLE)
    Path("cat.jpg").write_bytes(b"image")
    assert write(server, "--management-url", closed_url) == 1
    manifest = json.loads(Path("bundle/manifest.json").read_text(encoding="utf-8"))
    assert (manifest["description"], manifest["model"]) == (None, None)
    assert manifest["images"][0]["error"] == UNDECODABLE["error"]
    assert f"The bundle lacks the model's settings: no answer from {closed_url}" in capsys.readouterr().err


def test_equal_answers(bundle: Path, server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.reply = lambda request: (200, reply(probability=0.615705, strength=2.00001))
    assert reproduce.main([str(bundle)]) == 0
    assert server.forms() == [{"data": b"image", "explain": b"1", "method": b"layercam"}]
    output = capsys.readouterr().out
    assert output == (
        "cat.jpg: equal: probabilities differ by 5.0e-06, maps by 0.0e+00, strengths by 5.0e-06; cosine 1.000000\n"
        "1 equal within 1e-05, 0 different, 0 cannot be compared\n"
    )


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"heatmap": [[0.25, 1.0], [0.0, 0.75]]}, "maps by 2.5e-01, strengths by 0.0e+00; cosine 0.984309"),
        ({"probability": 0.5157}, "probabilities differ by 1.0e-01"),
        ({"strength": 4.0}, "strengths by 5.0e-01"),
    ],
    ids=str,
)
def test_different_answers(
    bundle: Path, server: FakeServer, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], text: str
) -> None:
    server.reply = lambda request: (200, reply(**changes))
    assert reproduce.main([str(bundle)]) == 1
    output = capsys.readouterr().out
    assert text in output
    assert output.startswith("cat.jpg: DIFFERENT: ")
    assert reproduce.main([str(bundle), "--tolerance", "0.6"]) == 0


def test_a_class_that_is_not_listed_is_at_most_as_probable_as_the_last() -> None:
    old, new = [(1, 0.6), (2, 0.3)], [(1, 0.6), (3, 0.25)]
    assert reproduce.one_sided_difference(old, new) == pytest.approx(0.05)
    assert reproduce.one_sided_difference(new, old) == 0


def test_another_model_comes_first(bundle: Path, server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    other = {**MODEL, "weights": "ba9876543210"}
    server.reply = lambda request: (200, {**reply(probability=0.1), "model": other})
    assert reproduce.main([str(bundle)]) == 1
    assert capsys.readouterr().out.startswith(
        "Another model answers: resnet18 1.0, weights ba9876543210; in the bundle resnet18 1.0, weights 0123456789ab\n"
    )


@pytest.mark.parametrize(
    ("answered", "text"),
    [
        ((200, reply(heatmap=[[1.0]])), "maps have the shape (1, 1), in the bundle (2, 2)"),
        ((200, {**answer(explained(DOG, b"")), "model": MODEL}), "explains the classes [207], in the bundle [281]"),
        ((400, UNDECODABLE), "undecodable_image: cannot decode"),
    ],
    ids=["size", "class", "error"],
)
def test_answers_that_cannot_be_compared(
    bundle: Path, server: FakeServer, capsys: pytest.CaptureFixture[str], answered: Any, text: str
) -> None:
    server.reply = lambda request: answered
    assert reproduce.main([str(bundle)]) == 2
    assert f"cat.jpg: cannot be compared: {text}" in capsys.readouterr().out


def test_another_image_is_not_compared(bundle: Path, server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    Path("cat.jpg").write_bytes(b"other")
    assert reproduce.main([str(bundle)]) == 2
    assert "image has changed" in capsys.readouterr().out
    Path("cat.jpg").unlink()
    assert reproduce.main([str(bundle)]) == 2
    assert "image cannot be read: No such file" in capsys.readouterr().out
    assert server.requests == []


def test_what_is_no_bundle(bundle: Path, closed_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert reproduce.main([str(bundle), "--url", closed_url]) == 2
    assert capsys.readouterr().err == f"reproduce: No server answers at {closed_url}\n"
    Path("other.json").write_text(json.dumps([CUP]))
    assert reproduce.main(["other.json"]) == 2
    assert capsys.readouterr().err == "reproduce: other.json is not a manifest of format 1\n"
    assert reproduce.main(["gone.json"]) == 2
