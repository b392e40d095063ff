"""Multi-label, single-logit and dict networks, and inputs that are not square, over HTTP against autograd."""

from __future__ import annotations

import base64
import io
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from tests.support import http_client, oracles
from tests.support.served import HEATMAP_TOLERANCE, PROBABILITY_TOLERANCE, error, parsed
from tools.archive import command
from tools.server.port_check import free_port
from tools.server.server import Server

FILE = """
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2)
        self.last = nn.Conv2d(8, 8, 3, stride=2)
        self.classes = nn.Linear(8, {outputs})

    def forward(self, x):
        features = self.last(self.stem(x).relu()).relu().mean((2, 3))
        return {returned}
"""
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)


class Plain(nn.Module):
    """The network of `FILE`, which returns the logits alone."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2)
        self.last = nn.Conv2d(8, 8, 3, stride=2)
        self.classes = nn.Linear(8, outputs)

    def forward(self, x: Tensor) -> Tensor:
        features = self.last(self.stem(x).relu()).relu().mean((2, 3))
        logits: Tensor = self.classes(features)
        return logits


@dataclass(frozen=True)
class Kind:
    """A network, how it is packed, and the class and sign of the logit that belong to each class."""

    outputs: int
    returned: str
    labels: tuple[str, ...]
    size: tuple[int, int]
    options: tuple[str, ...] = ()
    signed: dict[int, tuple[int, int]] = field(default_factory=dict)

    @property
    def network(self) -> nn.Module:
        """The network with large logits of both signs, so that its probabilities differ."""
        network = oracles.seeded(Plain(self.outputs), seed=self.outputs)
        weight = network.get_parameter("classes.weight").mul_(8)
        network.get_parameter("classes.bias").copy_(-weight.sum(dim=1) / 3)
        return network


KINDS = {
    "labels": Kind(5, "self.classes(features)", tuple("abcde"), (64, 64), ("--activation", "sigmoid")),
    "binary": Kind(
        1, "self.classes(features).squeeze(1)", ("healthy", "ill"), (64, 64), signed={0: (0, -1), 1: (0, 1)}
    ),
    "dict": Kind(3, "{'features': features, 'logits': self.classes(features)}", tuple("abc"), (64, 64)),
    "wide": Kind(4, "(features, self.classes(features))", tuple("abcd"), (48, 96), ("--logits", "1")),
}
IMAGE = oracles.seeded_image(90, 60, seed=5)


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "png")
    return file.getvalue()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("kinds")
    for name, kind in KINDS.items():
        (folder / f"{name}.py").write_text(
            FILE.replace("{outputs}", str(kind.outputs)).replace("{returned}", kind.returned)
        )
        (folder / f"{name}.txt").write_text("\n".join(kind.labels))
        torch.save(kind.network.state_dict(), folder / f"{name}.pth")
        height, width = kind.size
        options = {
            "--model-file": folder / f"{name}.py",
            "--weights": folder / f"{name}.pth",
            "--labels": folder / f"{name}.txt",
            "--input-size": f"{height}x{width}",
            "--mean": ",".join(map(str, MEAN)),
            "--std": ",".join(map(str, STD)),
            "--engine": "eager",
            "--output": folder,
        }
        arguments = [str(part) for option in options.items() for part in option]
        assert command.main([*arguments, *kind.options]) == 0
    with Server([folder / f"{name}.mar" for name in KINDS], free_port(), tmp_path_factory.mktemp("logs")) as running:
        yield running


def probabilities_of(name: str, image: Image.Image) -> list[float]:
    """Return the probability of each class, with formulas written out."""
    kind = KINDS[name]
    inputs = oracles.model_input(image, input_size=kind.size, mean=MEAN, std=STD)
    z = kind.network(inputs)[0].double().numpy()
    if name == "labels":
        return [float(value) for value in 1 / (1 + np.exp(-z))]
    if name == "binary":
        return [float(1 / (1 + np.exp(z[0]))), float(1 / (1 + np.exp(-z[0])))]
    return [float(value) for value in np.exp(z) / np.exp(z).sum()]


def heatmap_of(name: str, image: Image.Image, index: int) -> Any:
    """Return Grad-CAM of a class by autograd on the network as trained; of -z for a binary network's first class."""
    kind = KINDS[name]
    logit, sign = kind.signed.get(index, (index, 1))
    inputs = oracles.model_input(image, input_size=kind.size, mean=MEAN, std=STD)
    observed = oracles.autograd_at(kind.network, "last", inputs, [logit])
    positive = torch.relu(sign * observed.weighted_sum[0])
    return (positive / positive.max().clamp_min(1e-30)).numpy()


def ranking(probabilities: list[float]) -> list[int]:
    return sorted(range(len(probabilities)), key=lambda index: -probabilities[index])


def post(server: Server, name: str, **options: Any) -> Any:
    headers = {f"Gradcam-{option}": str(value) for option, value in options.items()}
    return http_client.post(f"{server.inference_url}/predictions/{name}", data=png(IMAGE), headers=headers)


@pytest.mark.parametrize("name", KINDS)
def test_probabilities_and_maps_are_those_of_the_network(name: str, server: Server) -> None:
    kind = KINDS[name]
    count = len(kind.labels)

    answer = parsed(post(server, name, Explain=count, Topk=count))

    expected = probabilities_of(name, IMAGE)
    ranked = ranking(expected)
    assert [entry["index"] for entry in answer["predictions"]] == ranked
    assert [entry["label"] for entry in answer["predictions"]] == [kind.labels[index] for index in ranked]
    for entry in answer["predictions"]:
        assert entry["probability"] == pytest.approx(expected[entry["index"]], abs=PROBABILITY_TOLERANCE)
    evidence = 0
    for entry in answer["explanations"]:
        heatmap = heatmap_of(name, IMAGE, entry["index"])
        assert np.asarray(entry["heatmap"]).shape == heatmap.shape
        np.testing.assert_allclose(entry["heatmap"], heatmap, rtol=0, atol=HEATMAP_TOLERANCE)
        evidence += entry["evidence"]
    assert evidence
    assert answer["layer"] == "last"
    if name == "wide":
        height, width = np.asarray(answer["explanations"][0]["heatmap"]).shape
        assert width > 1.8 * height


def test_the_archive_says_what_kind_it_is(server: Server) -> None:
    described = {
        name: http_client.get(f"{server.management_url}/models/{name}?customized=true").json()[0]["customizedMetadata"]
        for name in KINDS
    }
    assert {
        name: (entry["activation"], entry["class_scores"], entry["logits"]) for name, entry in described.items()
    } == {
        "labels": ("sigmoid", "logits", ""),
        "binary": ("softmax", "single_logit", ""),
        "dict": ("softmax", "logits", "logits"),
        "wide": ("softmax", "logits", "1"),
    }
    assert described["wide"]["input_size"] == [48, 96]
    assert all(entry["layers"] == ["stem", "last", "classes"] for entry in described.values())


def test_a_threshold_explains_every_label_at_or_above_it(server: Server) -> None:
    expected = probabilities_of("labels", IMAGE)
    ranked = ranking(expected)
    for count in range(1, 5):
        threshold = (expected[ranked[count - 1]] + expected[ranked[count]]) / 2
        answer = parsed(post(server, "labels", Threshold=threshold))
        assert [entry["index"] for entry in answer["explanations"]] == ranked[:count]
    assert parsed(post(server, "labels", Threshold=1))["explanations"] == []
    code, message = error(post(server, "labels", Threshold=0.5, Explain=2), 400)
    assert code == "invalid_option"
    assert "'explain' and 'threshold' are mutually exclusive" in message


def test_a_threshold_in_kserves_protocols(server: Server) -> None:
    other = oracles.seeded_image(70, 80, seed=11)
    images = [IMAGE, other]
    encoded = [base64.b64encode(png(image)).decode() for image in images]
    expected = [probabilities_of("labels", image) for image in images]
    # Between two probabilities of the two images, so that their numbers of explanations may differ.
    levels = sorted(value for row in expected for value in row)
    threshold = next(
        (low + high) / 2
        for low, high in itertools.pairwise(levels)
        if len({sum(value >= high for value in row) for row in expected}) == 2
    )
    explained = [[index for index in ranking(row) if row[index] >= threshold] for row in expected]

    parameters = {"threshold": threshold}
    v1 = http_client.post(
        f"{server.inference_url}/v1/models/labels:predict",
        json={"instances": [{"image": image} for image in encoded], "parameters": parameters},
    ).json()
    tensor = {"name": "image", "shape": [2], "datatype": "BYTES", "data": encoded}
    v2 = http_client.post(
        f"{server.inference_url}/v2/models/labels/infer", json={"inputs": [tensor], "parameters": parameters}
    ).json()

    assert [[entry["index"] for entry in row["explanations"]] for row in v1["predictions"]] == explained
    (target,) = (output for output in v2["outputs"] if output["name"] == "target")
    longest = max(map(len, explained))
    assert target["shape"] == [2, longest]
    assert target["data"] == [index for row in explained for index in [*row, *[-1] * (longest - len(row))]]


def test_the_overlay_of_a_threshold_needs_a_class(server: Server) -> None:
    url = f"{server.inference_url}/predictions/labels"
    headers = {"Accept": "image/png", "Gradcam-Threshold": "0"}
    assert http_client.post(url, data=png(IMAGE), headers=headers).content.startswith(b"\x89PNG")
    code, message = error(http_client.post(url, data=png(IMAGE), headers={**headers, "Gradcam-Threshold": "1"}), 400)
    assert code == "invalid_option"
    assert "the highest probability" in message
