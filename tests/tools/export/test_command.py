"""The command from an archive to verified files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from tests.support import oracles
from tests.support.exported import LABELS, MakeArchive
from tools.archive.loading import load
from tools.export import command, formats, runtimes
from tools.export.methods import EXPORTED, NOT_EXPORTED
from tools.export.runtimes import LOADERS

SUFFIXES = {"onnx": ".onnx", "openvino": ".xml"}
CPU = torch.device("cpu")


def run(archive: Path, output: Path, *options: str) -> int:
    return command.main([str(archive), "--output", str(output), *options])


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def images_and_pixels(count: int) -> NDArray[np.uint8]:
    return np.stack([np.asarray(oracles.seeded_image(44, 32, seed)) for seed in range(count)])  # (count, H, W, 3)


def answer(path: Path, file_format: str, image: NDArray[np.uint8], target: list[list[int]]) -> Mapping[str, Any]:
    return LOADERS[file_format](path)(torch.from_numpy(image), torch.tensor(target))


@pytest.mark.parametrize("file_format", SUFFIXES)
def test_file_equals_two_hooks_on_the_whole_network(file_format: str, archive: Path, tmp_path: Path) -> None:
    """The oracle shares no code with the export or the pipeline."""
    assert run(archive, tmp_path, "--format", file_format) == 0
    images = images_and_pixels(3)
    outputs = answer(tmp_path / f"tiny{SUFFIXES[file_format]}", file_format, images, [[-1, 4], [2, -1], [-1, -1]])

    pipeline = load(archive, CPU, engine="eager")
    inputs = torch.cat([oracles.model_input(Image.fromarray(image), input_size=(32, 44)) for image in images])
    probability = pipeline.network(inputs).softmax(dim=1)  # (3, K)
    ranked = probability.argsort(dim=1, descending=True)
    index = torch.tensor([[ranked[0, 0], 4], [2, ranked[1, 0]], [ranked[2, 0], ranked[2, 1]]])
    np.testing.assert_allclose(outputs["probability"], probability, atol=1e-5)
    np.testing.assert_array_equal(outputs["index"], index)
    assert outputs["heatmap"].shape == (3, 2, 5, 7)
    for place in (0, 1):
        observed = oracles.tutorial(pipeline.network, "3.last", inputs, index[:, place].tolist())
        raw = observed.weighted_sum.relu()  # (3, h, w)
        np.testing.assert_allclose(outputs["strength"][:, place], raw.amax(dim=(1, 2)), rtol=1e-4)
        evident = raw.amax(dim=(1, 2)) > 0
        np.testing.assert_array_equal(outputs["evidence"][:, place], evident)
        np.testing.assert_allclose(outputs["heatmap"][evident, place], observed.heatmaps[evident], atol=1e-4)
        assert not outputs["heatmap"][~evident.numpy(), place].any()
    assert {name: str(values.dtype) for name, values in outputs.items()} == {
        "probability": "float32",
        "index": "int64",
        "heatmap": "float32",
        "strength": "float32",
        "evidence": "bool",
    }


@pytest.mark.parametrize("method", EXPORTED)
@pytest.mark.parametrize("file_format", SUFFIXES)
def test_every_exported_method_is_verified(method: str, file_format: str, archive: Path, tmp_path: Path) -> None:
    assert run(archive, tmp_path, "--format", file_format, "--method", method) == 0
    assert f"tiny{SUFFIXES[file_format]}" in files(tmp_path)


@pytest.mark.parametrize("method", NOT_EXPORTED)
def test_other_methods_are_refused_by_name(
    method: str, archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(archive, tmp_path, "--format", "onnx", "--method", method) == 1
    message = capsys.readouterr().err
    assert f"Method '{method}' cannot be exported: it {NOT_EXPORTED[method]}" in message
    assert "valid are gradcam, gradcam++" in message
    assert files(tmp_path) == []


def test_unknown_names(archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(archive, tmp_path, "--format", "onnx", "--method", "gradcm") == 1
    assert "did you mean 'gradcam'" in capsys.readouterr().err
    assert run(archive, tmp_path, "--format", "onnx", "--layer", "3.lats") == 1
    assert "did you mean '3.last'" in capsys.readouterr().err
    assert run(tmp_path / "no.mar", tmp_path, "--format", "onnx") == 1
    assert "Cannot load" in capsys.readouterr().err


@pytest.mark.parametrize("file_format", SUFFIXES)
def test_metadata(file_format: str, archive: Path, tmp_path: Path) -> None:
    assert run(archive, tmp_path, "--format", file_format, "--layer", "3.body.0", "--license", "Apache-2.0") == 0
    path = tmp_path / f"tiny{SUFFIXES[file_format]}"
    if file_format == "onnx":
        import onnx  # noqa: PLC0415

        entries = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    else:
        import openvino  # noqa: PLC0415

        model = openvino.Core().read_model(path)
        entries = {key: str(value.value) for key, value in model.get_rt_info().items() if key.startswith("gradcam_")}
    pipeline = load(archive, CPU)
    assert json.loads(entries["gradcam_labels"]) == list(LABELS)
    assert (entries["gradcam_layer"], entries["gradcam_method"]) == ("3.body.0", "gradcam")
    assert entries["gradcam_weights_sha256"] == pipeline.settings.weights_sha256
    assert entries["gradcam_license"] == "Apache-2.0"
    preprocessing = json.loads(entries["gradcam_preprocessing"])
    assert (preprocessing["input_size"], preprocessing["transform"]) == ([32, 44], "squash")
    assert json.loads(entries["gradcam_versions"])["torch"] == torch.__version__.split("+")[0]


def test_onnx_is_one_file_of_standard_operators(archive: Path, tmp_path: Path) -> None:
    import onnx  # noqa: PLC0415

    assert run(archive, tmp_path, "--format", "onnx") == 0
    assert files(tmp_path) == ["tiny.onnx"]
    model = onnx.load(tmp_path / "tiny.onnx")
    assert {entry.domain for entry in model.opset_import} == {""}
    assert not any(tensor.external_data for tensor in model.graph.initializer)
    assert not model.functions


def test_multi_label_and_single_logit(tiny: MakeArchive, tmp_path: Path) -> None:
    """Verification compares probabilities with the pipeline's; the sums tell which activation it was."""
    images = images_and_pixels(2)
    assert run(tiny(activation="sigmoid"), tmp_path / "many", "--format", "onnx") == 0
    many = answer(tmp_path / "many" / "tiny.onnx", "onnx", images, [[-1], [-1]])["probability"]
    assert not np.allclose(many.sum(axis=1), 1)
    archive = tiny(labels=("no", "yes"), logits="1")
    assert run(archive, tmp_path / "one", "--format", "onnx") == 0
    one = answer(tmp_path / "one" / "tiny.onnx", "onnx", images, [[-1, -1], [0, 1]])
    np.testing.assert_allclose(one["probability"].sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(np.sort(one["index"], axis=1), [[0, 1], [0, 1]])


def test_numbers_that_are_no_class_have_no_map(archive: Path, tmp_path: Path) -> None:
    assert run(archive, tmp_path, "--format", "onnx") == 0
    outputs = answer(tmp_path / "tiny.onnx", "onnx", images_and_pixels(1), [[5, -2, 2**40, 1]])
    np.testing.assert_array_equal(outputs["index"], [[5, -2, 2**40, 1]])
    np.testing.assert_array_equal(outputs["evidence"][0, :3], [False] * 3)
    assert not outputs["heatmap"][0, :3].any()
    assert not outputs["strength"][0, :3].any()


def test_float16_is_the_precision_of_the_trunk_alone(archive: Path, tmp_path: Path) -> None:
    import onnx  # noqa: PLC0415

    assert run(archive, tmp_path, "--format", "onnx", "--precision", "float16") == 0
    weights = [tensor for tensor in onnx.load(tmp_path / "tiny.onnx").graph.initializer if len(tensor.dims) > 1]
    kinds = {tuple(tensor.dims): tensor.data_type for tensor in weights}
    assert kinds[8, 3, 5, 5] == onnx.TensorProto.FLOAT16
    assert onnx.TensorProto.FLOAT in {kinds.get((5, 48)), kinds.get((48, 5))}
    assert run(archive, tmp_path, "--format", "openvino", "--precision", "float16") == 0


def test_users_images_are_verified_too(archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    oracles.seeded_image(90, 70, 1).save(tmp_path / "photo.png")
    assert run(archive, tmp_path / "out", "--format", "onnx", "--images", str(tmp_path / "photo.png")) == 0
    (tmp_path / "broken.png").write_bytes(b"no image")
    assert run(archive, tmp_path / "bad", "--format", "onnx", "--images", str(tmp_path / "broken.png")) == 1
    assert "export: " in capsys.readouterr().err
    assert not (tmp_path / "bad").exists() or files(tmp_path / "bad") == []


def test_a_file_that_differs_is_not_written(
    archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tiny.onnx").write_text("the former file")

    def loader(path: Path) -> Any:
        right = runtimes.load_onnx(path)

        def wrong(image: torch.Tensor, target: torch.Tensor) -> dict[str, NDArray[Any]]:
            outputs = right(image, target)
            if len(image) == 7:
                outputs["heatmap"][6, 1, 2, 3] += 0.01
            return outputs

        return wrong

    monkeypatch.setattr(runtimes, "LOADERS", {"onnx": loader})
    assert run(archive, tmp_path, "--format", "onnx") == 1
    message = capsys.readouterr().err
    assert "heatmap must equal the pipeline's within 0.0001, but differs by 0.01" in message
    assert "at [6, 1, 2, 3] with 7 images with 2 targets each" in message
    assert (tmp_path / "tiny.onnx").read_text() == "the former file"
    assert files(tmp_path) == ["tiny.onnx"]


def test_an_operator_that_onnx_lacks_is_named(
    archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*arguments: Any, **options: Any) -> None:
        raise RuntimeError("outer") from NotImplementedError("No ONNX function for\naten.some_op.default")

    monkeypatch.setattr(torch.onnx, "export", fails)
    assert run(archive, tmp_path, "--format", "onnx") == 1
    assert "Cannot convert to ONNX: No ONNX function for aten.some_op.default" in capsys.readouterr().err
    assert files(tmp_path) == []


def test_file_formats_have_writers_and_loaders() -> None:
    assert set(command.FILE_FORMATS) == formats.WRITERS.keys() == LOADERS.keys()
