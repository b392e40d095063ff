"""Archives in int8: the graph, the figures measured when it was built, and the maps, against independent oracles."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch import Tensor

from gradcam.engines import graph
from gradcam.engines.engine import EngineError
from gradcam.message import Request, Result
from gradcam.options import Options
from gradcam.pipeline import Pipeline
from gradcam.settings import Settings
from tests.support import calibration_images, oracles, quantized
from tests.support.own_network import OwnNetwork
from tools.archive import command, precision, quantization
from tools.archive.configuration import configured, parse

# NNCF leaves a process in which signals end it, so these tests must not share one with tests of signals.
pytestmark = pytest.mark.full

SIZE = (64, 64)
LAYER = "conv5.0"
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("calibration")
    calibration_images.write(folder, 110)
    return folder


def arguments(own: OwnNetwork, output: Path, *more: str | Path) -> list[str]:
    fixed = ["--arch", own.architecture, "--weights", own.weights, "--layer", LAYER, "--input-size", SIZE[0]]
    return [str(part) for part in (*fixed, "--name", "mine", "--output", output, *more)]


@pytest.fixture(scope="module")
def unpacked(own_network: OwnNetwork, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive in int8; random weights follow float32 less closely than trained ones.

    Images are decoded as the oracles do it.
    """
    output = tmp_path_factory.mktemp("int8")
    thresholds = ("--min-agreement", "0.5", "--min-cosine", "0.5")
    more = ("--precision", "int8", "--calibration", folder, "--decoding", "exact", *thresholds)
    assert command.main(arguments(own_network, output, *more)) == 0
    with zipfile.ZipFile(output / "mine.mar") as archive:
        archive.extractall(output / "unpacked")
    return output / "unpacked"


@pytest.fixture(scope="module")
def block(unpacked: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((unpacked / "model-config.yaml").read_text())["gradcam"]
    return loaded


@pytest.fixture(scope="module")
def pipeline(unpacked: Path, block: dict[str, Any]) -> Pipeline:
    return Pipeline.load(unpacked, "weights.safetensors", Settings.from_mapping(block), CPU)


def held_back(folder: Path) -> list[Path]:
    files = {hashlib.sha256(path.read_bytes()).hexdigest(): path for path in folder.iterdir()}
    return [files[digest] for digest in sorted(files)[4::5]]


def prepared(path: Path) -> Tensor:
    with Image.open(path) as image:
        return oracles.model_input(image.convert("RGB"), input_size=SIZE)


def answers(pipeline: Pipeline, images: list[Path], options: Options) -> list[Result]:
    requests = [Request(path.read_bytes(), options) for path in images]
    results = [result for request in requests for result in pipeline.answer([request])]
    assert all(isinstance(result, Result) for result in results), results
    return [result for result in results if isinstance(result, Result)]


# ----------------------------------------------------------------------------- the archive


def test_the_archive_has_the_graph_and_says_how_it_was_made(
    unpacked: Path, block: dict[str, Any], folder: Path, pipeline: Pipeline
) -> None:
    files = (unpacked / "trunk.xml").read_bytes() + (unpacked / "trunk.bin").read_bytes()
    digests = sorted(hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir())
    expected = {
        "precision": "int8",
        "graph_sha256": hashlib.sha256(files).hexdigest(),
        "nncf": importlib.metadata.version("nncf"),
        "calibration_images": 88,
        "held_back_images": 22,
        "images_sha256": hashlib.sha256("".join(digests).encode()).hexdigest(),
    }
    assert {key: block[key] for key in expected} == expected
    described = pipeline.describe()
    assert {key: described[key] for key in block} == {**block, "engine": "openvino"}
    assert described["effective_precision"] == "int8"
    assert b"FakeQuantize" in (unpacked / "trunk.xml").read_bytes()


def test_figures_are_those_of_the_held_back_images(
    block: dict[str, Any], pipeline: Pipeline, own_network: OwnNetwork, folder: Path
) -> None:
    images = held_back(folder)
    inputs = torch.cat([prepared(path) for path in images])
    with torch.no_grad():
        classes = own_network.network(inputs).argmax(dim=1).tolist()
    expected = oracles.autograd_at(own_network.network, LAYER, inputs, classes).weighted_sum.relu()  # (B, h, w)

    predicted = [result.predictions[0].index for result in answers(pipeline, images, Options(topk=1, explain=0))]
    cosines = []
    for image, index, heatmap in zip(images, classes, expected, strict=True):
        (result,) = answers(pipeline, [image], Options(targets=(index,)))
        ours, theirs = np.asarray(result.explanations[0].heatmap, float).ravel(), heatmap.double().flatten().numpy()
        norms = np.linalg.norm(ours) * np.linalg.norm(theirs)
        cosines.append(ours @ theirs / norms if norms else float(not ours.any() and not theirs.any()))

    agreement = float(np.mean([one == other for one, other in zip(predicted, classes, strict=True)]))
    assert block["agreement"] == pytest.approx(agreement)
    assert block["cosine_median"] == pytest.approx(np.median(cosines), abs=2e-3)
    assert block["cosine_5_percent"] == pytest.approx(np.percentile(cosines, 5), abs=2e-3)
    assert block["cosine_worst"] == pytest.approx(np.min(cosines), abs=2e-3)


def test_maps_are_autograds_on_the_dequantized_graph(
    unpacked: Path, pipeline: Pipeline, own_network: OwnNetwork, folder: Path
) -> None:
    images = held_back(folder)[:6]
    inputs = torch.cat([prepared(path) for path in images])
    activations = quantized.activations(unpacked, inputs)
    in_float32 = oracles.autograd_at(own_network.network, LAYER, inputs, [0] * len(images)).activations
    assert not torch.allclose(activations, in_float32, rtol=1e-3, atol=1e-3)

    for target in (0, 3):
        expected = quantized.explained(own_network.network, LAYER, activations, [target] * len(images))
        for row, result in enumerate(answers(pipeline, images, Options(targets=(target,)))):
            (explanation,) = result.explanations
            heatmap = torch.tensor(explanation.heatmap)
            weighted = expected.weighted_sum[row].relu()
            torch.testing.assert_close(heatmap, weighted / weighted.max().clamp_min(1e-30), rtol=0, atol=0.05)
            probability = float(expected.logits[row].softmax(dim=0)[target])
            assert explanation.prediction.probability == pytest.approx(probability, abs=0.01)


def test_requests_for_other_layers_are_answered_in_float32(
    pipeline: Pipeline, own_network: OwnNetwork, folder: Path
) -> None:
    (image, *_) = held_back(folder)
    inputs = prepared(image)
    (result,) = answers(pipeline, [image], Options(explain=7, layer=("stage4",)))
    maps = 0
    for explanation in result.explanations:
        observed = oracles.autograd_at(own_network.network, "stage4", inputs, [explanation.prediction.index])
        if explanation.evidence:
            maps += 1
            torch.testing.assert_close(torch.tensor(explanation.heatmap), observed.heatmaps[0], rtol=0, atol=1e-3)
        else:
            assert observed.weighted_sum.max() <= 1e-6
    assert maps > 0


def test_loading_does_not_convert_the_network(
    unpacked: Path, block: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(graph, "convert")
    pipeline = Pipeline.load(unpacked, "weights.safetensors", Settings.from_mapping(block), CPU)
    assert pipeline.describe()["engine"] == "openvino"


def test_a_damaged_graph_is_not_loaded(unpacked: Path, block: dict[str, Any]) -> None:
    weights = unpacked / "trunk.bin"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    try:
        with pytest.raises(EngineError, match=r"trunk\.xml or its \.bin is damaged: its SHA-256 differs"):
            Pipeline.load(unpacked, "weights.safetensors", Settings.from_mapping(block), CPU)
    finally:
        weights.write_bytes(content)


def test_settings_that_the_figures_depend_on_are_fixed(block: dict[str, Any]) -> None:
    changes = parse(["transform=crop"])
    with pytest.raises(ValueError, match="'transform' cannot be changed: the figures of int8 were measured with it"):
        configured({"gradcam": block}, changes)
    assert configured({"gradcam": block}, parse(["max_targets=3"]))["gradcam"]["max_targets"] == 3


# ----------------------------------------------------------------------------- the choice


def build(
    own: OwnNetwork, output: Path, capsys: pytest.CaptureFixture[str], *more: str | Path
) -> tuple[int, str, dict[str, Any]]:
    """Return the exit status, standard error, and the settings of the archive, if there is one."""
    capsys.readouterr()
    status = command.main(arguments(own, output, *more))
    error = capsys.readouterr().err
    if not (output / "mine.mar").exists():
        return status, error, {}
    with zipfile.ZipFile(output / "mine.mar") as archive:
        names = archive.namelist()
        settings: dict[str, Any] = yaml.safe_load(archive.read("model-config.yaml"))["gradcam"]
    assert ("trunk.xml" in names) == ("trunk.bin" in names) == (settings["precision"] == "int8")
    return status, error, settings


def test_precision_below_a_threshold_builds_nothing(
    own_network: OwnNetwork, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ("--precision", "int8", "--calibration", folder, "--min-cosine", "1")
    status, error, settings = build(own_network, tmp_path, capsys, *more)
    assert (status, settings) == (1, {})
    for text in (
        "build_mar: int8 deviates too much from float32: ",
        "(--min-cosine 1)",
        "more calibration images",
        "--precision bfloat16",
        "nncf.quantize_with_accuracy_control",
    ):
        assert text in error


@pytest.mark.parametrize(
    ("milliseconds", "chosen"), [((9.0, 3.0), "int8"), pytest.param((3.0, 9.0), "float32", marks=pytest.mark.full)]
)
def test_auto_takes_the_fastest_that_meets_the_thresholds(
    milliseconds: tuple[float, float],
    chosen: str,
    own_network: OwnNetwork,
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    times = {"float32": milliseconds[0], "bfloat16": 10.0, "int8": milliseconds[1]}
    monkeypatch.setattr(precision, "_milliseconds", lambda splits, images: {name: times[name] for name in splits})
    more = ("--precision", "auto", "--calibration", folder, "--min-cosine", "0.5", "--min-agreement", "0.5")
    status, error, settings = build(own_network, tmp_path, capsys, *more)
    assert (status, settings["precision"]) == (0, chosen)
    rows = {line.split()[0]: line.split() for line in error.splitlines() if line.startswith("  ")}
    assert rows["float32"][1:4] == ["openvino", str(milliseconds[0]), "1.000"]
    assert rows["int8"][1:3] == ["openvino", str(milliseconds[1])]
    assert float(rows["int8"][3]) == pytest.approx(settings["agreement"], abs=5e-4) or chosen == "float32"


def test_auto_takes_float32_if_nothing_else_meets_the_thresholds(
    own_network: OwnNetwork, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ("--precision", "auto", "--calibration", folder, "--min-cosine", "0.99999")
    status, _, settings = build(own_network, tmp_path, capsys, *more)
    assert (status, settings["precision"], settings["agreement"], settings["nncf"]) == (0, "float32", 1.0, "")
    assert settings["decoding"] == "exact"


def test_bfloat16_is_compared_with_float32(
    own_network: OwnNetwork, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ("--precision", "bfloat16", "--calibration", folder)
    status, _, settings = build(own_network, tmp_path, capsys, *more)
    assert (status, settings["precision"], settings["calibration_images"]) == (0, "bfloat16", 0)
    assert settings["decoding"] == "fast"
    assert settings["held_back_images"] == 22
    assert 0.9 <= settings["cosine_worst"] <= settings["cosine_5_percent"] <= settings["cosine_median"] < 1


@pytest.mark.parametrize(("flags", "warned"), [("avx2 fma", True), ("avx2 avx512_vnni", False)])
def test_processor_without_instructions_for_int8_is_warned_about(
    flags: str, warned: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor : 0\nflags : fpu {flags}\n")
    monkeypatch.setattr(quantization, "CPU_INFORMATION", tmp_path / "cpuinfo")
    assert quantization.lacks_int8_instructions() == warned


# ----------------------------------------------------------------------------- rejections


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--precision", "int8"], "--precision int8 needs --calibration FOLDER with images like those to be served"),
        (["--precision", "auto"], "--precision auto needs --calibration FOLDER with images like those to be served"),
        (
            ["--calibration", "x"],
            "--calibration is for --precision bfloat16, float16, int8, or auto, got float32",
        ),
        (
            ["--precision", "int8", "--calibration", "x", "--engine", "eager"],
            "--precision int8 needs --engine openvino or auto, got 'eager'",
        ),
        (["--min-cosine", "95"], "--min-cosine must be between 0 and 1, got 95"),
        (["--min-agreement", "nan"], "--min-agreement must be between 0 and 1, got nan"),
        (
            ["--set", "precision=int8"],
            "--precision int8 needs --calibration FOLDER with images like those to be served",
        ),
        (
            ["--precision", "int8", "--calibration", "nowhere"],
            "--calibration must be a folder of images, got nowhere",
        ),
    ],
)
def test_options_that_do_not_go_together(
    more: list[str], message: str, own_network: OwnNetwork, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, error, settings = build(own_network, tmp_path, capsys, *more)
    assert (status, settings) == (1, {})
    assert error.splitlines()[-1] == f"build_mar: {message}"


def test_without_nncf(
    own_network: OwnNetwork, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    status, error, _ = build(own_network, tmp_path, capsys, "--precision", "int8", "--calibration", "x")
    assert status == 1
    assert error == "build_mar: --precision int8 needs the package nncf: python3 scripts/environment.py build\n"


def test_network_that_openvino_cannot_convert(
    own_network: OwnNetwork,
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def convert(trunk: Any, images: Tensor) -> Any:
        raise RuntimeError("no conversion for aten::frobnicate")

    monkeypatch.setattr(graph, "convert", convert)
    status, error, _ = build(own_network, tmp_path, capsys, "--precision", "int8", "--calibration", folder)
    assert status == 1
    assert "build_mar: This network cannot be quantized: no conversion for aten::frobnicate" in error

    status, error, settings = build(own_network, tmp_path, capsys, "--precision", "auto", "--calibration", folder)
    assert (status, settings["precision"]) == (0, "float32")
    assert "int8 is left out: This network cannot be quantized: no conversion for aten::frobnicate" in error


def test_int8_needs_the_graph_of_its_archive(block: dict[str, Any]) -> None:
    for changes in ({"graph_sha256": ""}, {"precision": "float32"}):
        with pytest.raises(ValueError, match="'precision' must be int8 if, and only if, the archive has a quantized"):
            Settings.from_mapping(json.loads(json.dumps(block | changes)))
