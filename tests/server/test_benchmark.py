"""The baselines of the benchmark give correct maps and can be measured, each on its own server."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator

import cv2
import numpy as np
import pytest
import torch
import torchvision
from numpy.typing import NDArray
from PIL import Image

from tests.support import oracles
from tools.benchmarks import systems
from tools.benchmarks.measurement import DEFAULT_SIZE, Case, answer, measure, photographs
from tools.benchmarks.servers import best
from tools.benchmarks.systems import GRADCAM, GRADCAM_HANDLER, HOOKS_HANDLER, TWO_HOOKS, System
from tools.server.port_check import free_port
from tools.server.server import Server

# The baselines are not served, only measured.
pytestmark = pytest.mark.full

HANDLERS = {TWO_HOOKS.name: HOOKS_HANDLER, GRADCAM.name: GRADCAM_HANDLER}
BASELINE = System("baseline")


@pytest.fixture(scope="module", params=HANDLERS)
def baseline(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Server]]:
    folder = tmp_path_factory.mktemp("benchmark")
    weights = systems.save_weights(folder)
    archive = systems.third_party(folder, "baseline", HANDLERS[request.param], weights)
    with Server([archive], free_port()) as server:
        yield request.param, server


def expected(image: bytes) -> tuple[str, NDArray[np.float32]]:
    """Return the class and the map, (h, w), of the tutorial's algorithm on the base handler's input."""
    torch.manual_seed(systems.SEED)
    network = torchvision.models.resnet18().eval()
    images = oracles.model_input(Image.open(io.BytesIO(image)), crop_from=256)  # (1, 3, H, W)
    with torch.no_grad():
        index = int(network(images).argmax())
    (heatmap,) = oracles.tutorial(network, "layer4.1.conv2", images, [index]).heatmaps  # (h, w)
    return systems.LABELS[index], heatmap.numpy()


def test_baseline_explains_and_is_measured(baseline: tuple[str, Server]) -> None:
    name, server = baseline
    (image, *_) = photographs(DEFAULT_SIZE)
    document = json.loads(answer(server, BASELINE, image))
    label, heatmap = expected(image)
    assert best(document) == label
    if name == TWO_HOOKS.name:
        assert np.abs(np.array(document["heatmap"]) - heatmap).max() < 1e-3
    else:
        png = np.frombuffer(base64.b64decode(document["heatmap"]), np.uint8)
        levels = cv2.imdecode(png, cv2.IMREAD_GRAYSCALE)
        assert levels is not None
        # The library also subtracts the minimum, which is not part of Grad-CAM.
        stretched = (heatmap - heatmap.min()) / (1 - heatmap.min())
        assert np.abs(levels / 255 - cv2.resize(stretched, levels.shape[::-1])).max() < 0.01

    measured = measure(server, 0, BASELINE, Case(DEFAULT_SIZE, 4), 1.0)
    assert measured.requests == len(measured.latencies) >= 4
    assert 1.0 <= measured.seconds < 10
    assert sum(measured.latencies) <= 4 * measured.seconds
    assert 0 < measured.cpu_seconds < 60
    assert 2e8 < measured.worker_bytes < 4e9
    assert measured.phases == {}
