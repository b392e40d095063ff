"""An exported model's configuration in Triton's own schema, and the example of Triton's client."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.clients.conftest import run
from tests.support.triton_server import StandIn, running
from tools.export.repository import INSTANCES, MAX_BATCH, QUEUE_DELAY, Model, triton_config, write_triton
from tools.paths import ROOT

LABELS = ("cat", "dog", "Straße")
PARSE = """
import sys
from google.protobuf import json_format, text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig
print(json_format.MessageToJson(text_format.Parse(sys.argv[1], ModelConfig())))
"""


def parsed(python: Path, instances: str) -> dict[str, object]:
    model = Model("my_model", LABELS, (48, 64), (3, 4), instances)
    config: dict[str, object] = json.loads(run([python, "-c", PARSE, triton_config(model)]))
    return config


@pytest.mark.parametrize("instances", INSTANCES)
def test_configuration_is_valid(instances: str, python: Path) -> None:
    config = parsed(python, instances)
    assert (config["name"], config["backend"], config["maxBatchSize"]) == ("my_model", "onnxruntime", MAX_BATCH)
    assert config["dynamicBatching"] == {"maxQueueDelayMicroseconds": str(QUEUE_DELAY)}
    assert config["input"] == [
        {"name": "image", "dataType": "TYPE_UINT8", "dims": ["48", "64", "3"]},
        {"name": "target", "dataType": "TYPE_INT64", "dims": ["-1"]},
    ]
    assert config["output"] == [
        {"name": "probability", "dataType": "TYPE_FP32", "dims": ["3"], "labelFilename": "labels.txt"},
        {"name": "index", "dataType": "TYPE_INT64", "dims": ["-1"]},
        {"name": "heatmap", "dataType": "TYPE_FP32", "dims": ["-1", "3", "4"]},
        {"name": "strength", "dataType": "TYPE_FP32", "dims": ["-1"]},
        {"name": "evidence", "dataType": "TYPE_BOOL", "dims": ["-1"]},
    ]
    kind = "KIND_CPU" if instances == "cpu" else "KIND_GPU"
    assert config["instanceGroup"] == [{"count": 1, "kind": kind}]
    accelerators = {"executionAccelerators": {"gpuExecutionAccelerator": [{"name": "tensorrt"}]}}
    assert config.get("optimization") == (accelerators if instances == "tensorrt" else None)


def test_example(python: Path, image: Path, tmp_path: Path) -> None:
    heatmap = np.zeros((1, 3, 3, 4))
    heatmap[0, 0, 0, 0] = 1
    stand_in = StandIn(
        {"image": ("UINT8", [-1, 48, 64, 3]), "target": ("INT64", [-1, -1])},
        {
            "probability": ("FP32", np.array([[0.2, 0.1, 0.7]])),
            "index": ("INT64", np.array([[2, 0, 1]])),
            "heatmap": ("FP32", heatmap),
            "strength": ("FP32", np.ones((1, 3))),
            "evidence": ("BOOL", np.ones((1, 3))),
        },
    )
    (tmp_path / "my_model").mkdir()
    write_triton(tmp_path, Model("my_model", LABELS, (48, 64), (3, 4)))
    overlay = tmp_path / "overlay.png"
    example = ROOT / "examples" / "export" / "with_triton.py"
    with running(stand_in):
        output = run([python, example, stand_in.address, tmp_path / "my_model", image, overlay])
    assert output.splitlines() == ["Straße: 0.700", "cat: 0.200", "dog: 0.100"]
    with Image.open(image) as picture, Image.open(overlay) as drawn:
        pixels = np.asarray(picture.resize((64, 48), Image.Resampling.BILINEAR))
        np.testing.assert_array_equal(stand_in.received["image"], pixels[None])
        np.testing.assert_array_equal(stand_in.received["target"], [[-1, -1, -1]])
        before, after = np.asarray(picture).astype(int), np.asarray(drawn).astype(int)
    # The map's only positive cell is at the top left, where the overlay turns red.
    assert after[5, 5, 0] - before[5, 5, 0] > 50
    np.testing.assert_array_equal(after[-1, -1], before[-1, -1])
