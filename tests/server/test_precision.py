"""An archive in int8 on a real server."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import torch
import yaml
from PIL import Image

from tests.support import calibration_images, oracles, quantized
from tests.support.own_network import OwnNetwork
from tools.archive import build as build_mar
from tools.archive.build import Build
from tools.server.port_check import free_port
from tools.server.server import Server

# NNCF leaves a process in which signals end it, so these tests must not share one with tests of signals.
pytestmark = pytest.mark.full

LAYER = "conv5.0"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("calibration")
    calibration_images.write(folder, 110)
    return folder


@pytest.fixture(scope="module")
def archive(own_network: OwnNetwork, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_mar.build(
        Build(
            own_network.architecture,
            str(own_network.weights),
            layer=LAYER,
            input_size=(64, 64),
            precision="int8",
            decoding="exact",
            calibration=folder,
            min_agreement=0.5,
            min_cosine=0.5,
            name="small",
            output=tmp_path_factory.mktemp("int8"),
        )
    )


@pytest.fixture(scope="module")
def server(archive: Path) -> Iterator[Server]:
    with Server([archive], free_port()) as running:
        yield running


def test_maps_over_http_are_those_of_the_quantized_graph(
    server: Server, archive: Path, folder: Path, own_network: OwnNetwork, tmp_path: Path
) -> None:
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(tmp_path)
    for path in sorted(folder.iterdir())[:3]:
        with Image.open(path) as image:
            images = oracles.model_input(image.convert("RGB"), input_size=(64, 64))
        activations = quantized.activations(tmp_path, images)
        answer = requests.post(
            f"{server.inference_url}/predictions/small",
            data=path.read_bytes(),
            headers={"Gradcam-Targets": "0,3", "Content-Type": "image/png"},
            timeout=60,
        )
        assert answer.status_code == 200
        for explanation, target in zip(answer.json()["explanations"], (0, 3), strict=True):
            expected = quantized.explained(own_network.network, LAYER, activations, [target])
            weighted = expected.weighted_sum[0].relu()
            heatmap = torch.tensor(explanation["heatmap"])
            torch.testing.assert_close(heatmap, weighted / weighted.max().clamp_min(1e-30), rtol=0, atol=0.05)
            probability = float(expected.logits[0].softmax(dim=0)[target])
            assert explanation["probability"] == pytest.approx(probability, abs=0.01)


def test_description_says_how_the_graph_was_made(server: Server, archive: Path) -> None:
    with zipfile.ZipFile(archive) as packed:
        block: dict[str, Any] = yaml.safe_load(packed.read("model-config.yaml"))["gradcam"]
    (version,) = requests.get(f"{server.management_url}/models/small?customized=true", timeout=60).json()
    described = version["customizedMetadata"]
    assert described["effective_precision"] == described["precision"] == "int8"
    assert (described["calibration_images"], described["held_back_images"]) == (88, 22)
    figures = (
        "graph_sha256",
        "nncf",
        "images_sha256",
        "agreement",
        "cosine_median",
        "cosine_5_percent",
        "cosine_worst",
    )
    assert {key: described[key] for key in figures} == {key: block[key] for key in figures}
