"""Folders for Triton and OpenVINO Model Server. `tests/clients` parses Triton's configuration with its own schema."""

from __future__ import annotations

import json
from pathlib import Path

import onnxruntime
import pytest

from tests.tools.export.test_command import files, run
from tools.export.repository import INSTANCES


def test_triton(archive: Path, tmp_path: Path) -> None:
    assert run(archive, tmp_path, "--format", "triton") == 0
    assert files(tmp_path) == ["tiny/1/model.onnx", "tiny/config.pbtxt", "tiny/labels.txt"]
    assert (tmp_path / "tiny" / "labels.txt").read_text().splitlines() == ["cat", "dog", "Straße", "dog 🐕", "crow"]
    config = (tmp_path / "tiny" / "config.pbtxt").read_text()
    session = onnxruntime.InferenceSession(tmp_path / "tiny" / "1" / "model.onnx")
    kinds = {"uint8": "UINT8", "int64": "INT64", "float": "FP32", "bool": "BOOL"}
    for tensor in (*session.get_inputs(), *session.get_outputs()):
        dims = ", ".join(str(size) if isinstance(size, int) else "-1" for size in tensor.shape[1:])
        kind = kinds[tensor.type.removeprefix("tensor(").removesuffix(")")]
        assert f'name: "{tensor.name}", data_type: TYPE_{kind}, dims: [{dims}]' in config


@pytest.mark.parametrize("instances", INSTANCES)
def test_instances(instances: str, archive: Path, tmp_path: Path) -> None:
    assert run(archive, tmp_path, "--format", "triton", "--instances", instances) == 0
    config = (tmp_path / "tiny" / "config.pbtxt").read_text()
    assert ("KIND_CPU" in config) is (instances == "cpu")
    assert ("tensorrt" in config) is (instances == "tensorrt")


def test_model_server(archive: Path, tmp_path: Path) -> None:
    assert run(archive, tmp_path, "--format", "model-server") == 0
    assert files(tmp_path) == ["config.json", "tiny/1/model.bin", "tiny/1/model.xml"]
    (entry,) = json.loads((tmp_path / "config.json").read_text())["model_config_list"]
    assert entry == {"config": {"name": "tiny", "base_path": "/models/tiny"}}
