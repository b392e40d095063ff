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
from tools.benchmarks import servers as benchmark
from tools.benchmarks import systems as contestants
from tools.benchmarks.servers import USUAL_SIZE, Case, Client
from tools.benchmarks.systems import GRADCAM, PEERS, TWO_HOOKS, Contestant
from tools.server.port_check import free_port
from tools.server.server import Server

HANDLERS = {TWO_HOOKS.name: "two_hooks.py", GRADCAM.name: "pytorch_grad_cam_handler.py"}
PEER = Contestant("peer")


@pytest.fixture(scope="module", params=HANDLERS)
def peer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Server]]:
    folder = tmp_path_factory.mktemp("benchmark")
    weights = contestants.save_weights(folder)
    archive = contestants.peer(folder, "peer", str(PEERS / HANDLERS[request.param]), weights)
    with Server([archive], free_port()) as server:
        yield request.param, server


def expected(image: bytes) -> tuple[str, NDArray[np.float32]]:
    """Return the class and the map, (h, w), of the tutorial's algorithm on the base handler's input."""
    torch.manual_seed(contestants.SEED)
    network = torchvision.models.resnet18().eval()
    images = oracles.model_input(Image.open(io.BytesIO(image)), crop_from=256)  # (1, 3, H, W)
    with torch.no_grad():
        best = int(network(images).argmax())
    (heatmap,) = oracles.tutorial(network, "layer4.1.conv2", images, [best]).heatmaps  # (h, w)
    return contestants.LABELS[best], heatmap.numpy()


def test_peer_explains_and_is_measured(peer: tuple[str, Server]) -> None:
    name, server = peer
    (body, *_) = benchmark.pictures(USUAL_SIZE)
    client = Client(server, PEER, [body], 0)
    answer = json.loads(client.ask())
    client.close()
    label, heatmap = expected(body)
    assert benchmark.best(answer) == label
    if name == TWO_HOOKS.name:
        assert np.abs(np.array(answer["heatmap"]) - heatmap).max() < 1e-3
    else:
        png = np.frombuffer(base64.b64decode(answer["heatmap"]), np.uint8)
        theirs = cv2.imdecode(png, cv2.IMREAD_GRAYSCALE) / 255
        # The library also subtracts the minimum, which is not part of Grad-CAM.
        stretched = (heatmap - heatmap.min()) / (1 - heatmap.min())
        assert np.abs(theirs - cv2.resize(stretched, theirs.shape[::-1])).max() < 0.01

    measured = benchmark.measure(server, 0, PEER, Case(USUAL_SIZE, 4), 1.0)
    assert measured.requests == len(measured.latencies) >= 4
    assert 1.0 <= measured.seconds < 10
    assert sum(measured.latencies) <= 4 * measured.seconds
    assert 0 < measured.cpu_seconds < 60
    assert 2e8 < measured.worker_bytes < 4e9
    assert measured.phases == {}
