"""A served model, and checks of its answers against an independent implementation of Grad-CAM."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import requests
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from gradcam.explain.cam import METHODS
from tests.support import http_client, oracles
from tests.support.encoding import Pixels
from tools.server.server import Server

# float32 sums in another order, and JSON has six decimals. The map of a class with little evidence is divided by a
# small maximum: it differs from a float64 map by up to 1e-5, and by up to 2e-5 with another memory layout.
HEATMAP_TOLERANCE = 4e-5
PROBABILITY_TOLERANCE = 2e-6

# The model `batched` waits this long for a batch of eight requests.
BATCH_SECONDS = 30

# Settings that allow every method, for as long as it takes.
ALL_METHODS = {"methods": list(METHODS), "max_passes": 600, "max_batch_seconds": 50, "max_delay_seconds": 50}

# The maximum response size of the model `batched`; that of the others is 64 MiB.
RESPONSE_BYTES = 2**20


@dataclass(frozen=True)
class Expected:
    """The expected probabilities and maps of an image."""

    probabilities: NDArray[np.float32]
    heatmaps: dict[int, NDArray[np.float32]]
    """By class index; all 0 for a class without evidence."""
    strengths: dict[int, float]
    """By class index: the maximum of the map after ReLU, before division."""


@dataclass(frozen=True)
class Call:
    """One request: the image's bytes and how they are sent."""

    body: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)
    form: dict[str, str] | None = None
    """If set, the image is sent as a file in a multipart form with these fields."""
    field_name: str = "data"
    json: Any = None
    """If set, this is sent as JSON instead."""
    endpoint: str = "predictions"
    """`predictions` or `explanations`."""


@dataclass(frozen=True)
class Model:
    """A model of the running server, and the same network in this process."""

    server: Server
    name: str
    network: nn.Module
    labels: tuple[str, ...]
    crop_from: int | None = None
    mean: tuple[float, ...] = oracles.ARCHITECTURE_MEAN
    std: tuple[float, ...] = oracles.ARCHITECTURE_STD
    expectations: dict[tuple[bytes, tuple[int, ...]], Expected] = field(default_factory=dict, repr=False)

    def post(self, call: Call) -> requests.Response:
        """Send one request on a new connection."""
        url = f"{self.server.inference_url}/{call.endpoint}/{self.name}"
        parts: dict[str, Any] = {"data": call.body}
        if call.form is not None:
            files = {} if call.body is None else {call.field_name: ("image", call.body, "application/octet-stream")}
            # Fields are parts without a file name, so that the body is multipart even without a file.
            parts = {"files": {**files, **{name: (None, value) for name, value in call.form.items()}}}
        elif call.json is not None:
            parts = {"json": call.json}
        return http_client.post(url, headers=call.headers, **parts)

    def predict(self, body: bytes, **options: Any) -> dict[str, Any]:
        """Send an image as the raw body with options as headers, and return the parsed answer."""
        headers = {f"Gradcam-{name}": str(value) for name, value in options.items()}
        return parsed(self.post(Call(body, headers)))

    def post_json(self, path: str, body: Any, **headers: str) -> requests.Response:
        """Send JSON to any path of the inference API, such as KServe's."""
        return http_client.post(f"{self.server.inference_url}{path}", json=body, headers=headers)

    def post_together(self, calls: Sequence[Call]) -> list[requests.Response]:
        """Send requests concurrently; return the responses in the order of the calls."""
        with ThreadPoolExecutor(len(calls)) as pool:
            return list(pool.map(self.post, calls))

    def expected(self, pixels: Pixels, classes: Sequence[int]) -> Expected:
        """Run the tutorial's algorithm on an RGB image (H, W, 3)."""
        classes = classes or [0]  # any class: the probabilities are needed
        key = (pixels.tobytes(), tuple(classes))
        if key not in self.expectations:
            self.expectations[key] = self._expected(pixels, list(classes))
        return self.expectations[key]

    def _expected(self, pixels: Pixels, classes: list[int]) -> Expected:
        image = oracles.model_input(
            Image.fromarray(pixels), crop_from=self.crop_from, mean=self.mean, std=self.std
        )  # (1, 3, 224, 224)
        layer = oracles.target_layer(self.network)
        observed = oracles.tutorial(self.network, layer, image.repeat(len(classes), 1, 1, 1), classes)
        probabilities = torch.softmax(observed.logits[0], dim=0).numpy()
        strengths = observed.weighted_sum.relu().amax(dim=(1, 2)).tolist()
        return Expected(
            probabilities,
            dict(zip(classes, observed.heatmaps.nan_to_num().numpy(), strict=True)),
            dict(zip(classes, strengths, strict=True)),
        )


def parsed(response: requests.Response) -> dict[str, Any]:
    """Parse a successful response, and check its content type and that its JSON is compact."""
    assert response.status_code == 200, response.text
    assert response.headers.get("content-type") == "application/json"
    answer: dict[str, Any] = response.json()
    assert response.text == json.dumps(answer, separators=(",", ":"))
    return answer


def error(response: requests.Response, status: int) -> tuple[str, str]:
    """Check an error response with this status; return the error's code and message."""
    assert response.status_code == status, response.text
    assert response.headers.get("content-type") == "application/json"
    body = response.json()
    assert response.text == json.dumps(body, separators=(",", ":"))
    assert body.keys() == {"error"}
    assert body["error"].keys() == {"code", "message"}
    return body["error"]["code"], body["error"]["message"]


def error_v2(response: requests.Response, status: int) -> tuple[str, str]:
    """Check an error response in the form of KServe's V2; return the error's code and message."""
    assert response.status_code == status, response.text
    assert response.headers.get("content-type") == "application/json"
    body = response.json()
    assert body.keys() == {"error", "code"}
    assert isinstance(body["error"], str)
    return body["code"], body["error"]


# ----------------------------------------------------------------------------- checks


def check(answer: dict[str, Any], model: Model, pixels: Pixels, targets: list[int] | int = 1, topk: int = 5) -> None:
    """Compare a whole answer with the tutorial's result on the same pixels.

    Args:
        answer: the parsed answer.
        model: the model that sent it.
        pixels: the image as sent, RGB, (H, W, 3).
        targets: the explained classes, or how many of the most probable classes are explained.
        topk: the number of predicted classes.
    """
    explained = [entry["index"] for entry in answer["explanations"]]
    expected = model.expected(pixels, explained)
    check_predictions(answer["predictions"], model, expected, topk)
    if isinstance(targets, int):
        targets = [entry["index"] for entry in answer["predictions"][:targets]]
    assert explained == targets
    left, top, right, bottom = answer["image"]["region"]
    for entry in answer["explanations"]:
        check_class(entry, model, expected)
        heatmap = expected.heatmaps[entry["index"]]
        assert np.asarray(entry["heatmap"]).shape == heatmap.shape
        assert np.abs(np.asarray(entry["heatmap"]) - heatmap).max() <= HEATMAP_TOLERANCE
        assert entry["evidence"] is bool(heatmap.max() > 0) is bool(entry["strength"] > 0)
        assert abs(entry["strength"] / (expected.strengths[entry["index"]] or 1) - entry["evidence"]) < 1e-3
        if entry["evidence"]:
            assert np.max(entry["heatmap"]) == 1
            row, column = np.unravel_index(np.argmax(entry["heatmap"]), heatmap.shape)
            x = left + (column + 0.5) / heatmap.shape[1] * (right - left)
            y = top + (row + 0.5) / heatmap.shape[0] * (bottom - top)
            assert entry["peak"] == [int(x), int(y)]
        else:
            assert entry["peak"] is None
    height, width = pixels.shape[:2]
    assert (answer["image"]["width"], answer["image"]["height"]) == (width, height)
    if model.crop_from is None:
        assert answer["image"]["region"] == [0, 0, width, height]
    assert answer["method"] == "gradcam"
    assert answer["layer"] == oracles.target_layer(model.network)


def check_predictions(predictions: list[dict[str, Any]], model: Model, expected: Expected, topk: int) -> None:
    """Check that these are the most probable classes, in order."""
    assert len(predictions) == topk
    for entry in predictions:
        check_class(entry, model, expected)
    reported = [entry["probability"] for entry in predictions]
    assert reported == sorted(reported, reverse=True)
    indices = [entry["index"] for entry in predictions]
    assert len(set(indices)) == topk
    others = np.delete(expected.probabilities, indices)
    assert others.size == 0 or others.max() <= reported[-1] + PROBABILITY_TOLERANCE


def check_class(entry: dict[str, Any], model: Model, expected: Expected) -> None:
    """Check the label and probability of a class."""
    assert entry["label"] == model.labels[entry["index"]]
    assert abs(entry["probability"] - expected.probabilities[entry["index"]]) <= PROBABILITY_TOLERANCE


def check_overlay(drawn: Pixels, pixels: Pixels, heatmap: NDArray[np.float32], region: Sequence[int]) -> None:
    """Compare an RGB overlay with the tutorial's inside the region, and with the image outside it, exactly.

    The tutorial truncates `255 * map` to an integer. Where that product is an integer within the tolerance of maps,
    both neighboring integers are correct; few pixels are affected.
    """
    left, top, right, bottom = region
    inside = np.s_[top:bottom, left:right]
    candidates = [
        cv2.cvtColor(oracles.overlay(pixels[inside], (heatmap + shift).clip(0, 1)), cv2.COLOR_BGR2RGB)
        for shift in (np.float32(0), np.float32(-HEATMAP_TOLERANCE), np.float32(HEATMAP_TOLERANCE))
    ]
    equal = np.stack([(drawn[inside] == candidate).all(axis=2) for candidate in candidates])
    assert drawn.shape == pixels.shape
    assert equal.any(axis=0).all()
    assert equal[0].mean() > 0.99
    outside = np.ones(pixels.shape[:2], bool)
    outside[inside] = False
    assert (drawn[outside] == pixels[outside]).all()


def check_tensors(
    tensors: dict[str, dict[str, Any]],
    model: Model,
    images: Sequence[Pixels],
    targets: list[int] | int = 1,
    topk: int = 5,
) -> None:
    """Compare the output tensors of KServe's V2 protocol with the tutorial's results on the same images.

    Args:
        tensors: the output tensors in their JSON form, by name.
        model: the model that sent them.
        images: the images as sent, RGB, (H, W, 3).
        targets: the explained classes, or how many of the most probable classes are explained.
        topk: the number of predicted classes.
    """
    n, t = len(images), targets if isinstance(targets, int) else len(targets)
    arrays = {name: np.asarray(tensor["data"]).reshape(tensor["shape"]) for name, tensor in tensors.items()}
    kinds = {name: (tensor["datatype"], tensor["shape"]) for name, tensor in tensors.items()}
    assert kinds == {
        "index": ("INT64", [n, topk]),
        "label": ("BYTES", [n, topk]),
        "probability": ("FP32", [n, topk]),
        "target": ("INT64", [n, t]),
        "evidence": ("BOOL", [n, t]),
        "peak": ("INT64", [n, t, 2]),
        "strength": ("FP32", [n, t]),
        "heatmap": ("FP32", [n, t, 7, 7]),
        "region": ("INT64", [n, 4]),
    }
    rows = {name: array.tolist() for name, array in arrays.items()}
    for number, pixels in enumerate(images):
        height, width = pixels.shape[:2]
        predictions = [
            {"index": index, "label": label, "probability": probability}
            for index, label, probability in zip(
                rows["index"][number], rows["label"][number], rows["probability"][number], strict=True
            )
        ]
        expected = model.expected(pixels, rows["target"][number])
        explanations = [
            {
                "index": target,
                "label": model.labels[target],
                "probability": float(expected.probabilities[target]),
                "evidence": rows["evidence"][number][position],
                "heatmap": rows["heatmap"][number][position],
                "peak": None if rows["peak"][number][position] == [-1, -1] else rows["peak"][number][position],
                "strength": rows["strength"][number][position],
            }
            for position, target in enumerate(rows["target"][number])
        ]
        answer = {
            "predictions": predictions,
            "explanations": explanations,
            "method": "gradcam",
            "layer": oracles.target_layer(model.network),
            "image": {"width": width, "height": height, "region": rows["region"][number]},
        }
        check(answer, model, pixels, targets, topk)


# ----------------------------------------------------------------------------- images


def from_data_url(url: str, kind: str) -> bytes:
    """Return the bytes of a `data:` URL with this media type."""
    header, _, data = url.partition(",")
    assert header == f"data:image/{kind};base64"
    return base64.b64decode(data, validate=True)


def sample(seed: int, width: int = 310, height: int = 203) -> Pixels:
    """Return a seeded image, RGB, (H, W, 3)."""
    return np.asarray(oracles.seeded_image(width, height, seed))
