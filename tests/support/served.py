"""A served model, and the answers that an independent implementation of the tutorial expects from it."""

from __future__ import annotations

import base64
import io
import json
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import requests
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from tests.support import oracles
from tools.server.server import Server

Pixels = NDArray[np.uint8]

# What float32 leaves of the same numbers in another order, and six decimals of JSON. Maps of a class with little
# evidence are divided by a small maximum: those of the plain network are up to 1e-5 from float64's, in another layout
# of memory 2e-5.
HEATMAP_TOLERANCE = 4e-5
PROBABILITY_TOLERANCE = 2e-6

# So long the model `batched` holds a batch back until eight requests are there.
BATCH_SECONDS = 30

# The longest answer of that model; of the others it is 64 MiB.
RESPONSE_BYTES = 2**20


@dataclass(frozen=True)
class Expected:
    """What the network says about a picture, by the tests' own arithmetic."""

    probabilities: NDArray[np.float32]
    heatmaps: dict[int, NDArray[np.float32]]
    """By class; all 0 where nothing speaks for it."""


@dataclass(frozen=True)
class Call:
    """One request: the picture's bytes and how they travel."""

    body: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)
    form: dict[str, str] | None = None
    """Given: the picture travels as a file of a multipart form, with these fields."""
    field_name: str = "data"
    document: Any = None
    """Given: travels as JSON instead."""
    door: str = "predictions"


@dataclass(frozen=True)
class Model:
    """A model of the running server, and the same network in the tests' own hands."""

    server: Server
    name: str
    network: nn.Module
    labels: tuple[str, ...]
    crop_from: int | None = None
    mean: tuple[float, ...] = oracles.ARCHITECTURE_MEAN
    std: tuple[float, ...] = oracles.ARCHITECTURE_STD
    known: dict[tuple[bytes, tuple[int, ...]], Expected] = field(default_factory=dict, repr=False)

    def post(self, call: Call) -> requests.Response:
        """Sends one request on a connection of its own."""
        url = f"{self.server.inference_url}/{call.door}/{self.name}"
        parts: dict[str, Any] = {"data": call.body}
        if call.form is not None:
            files = {} if call.body is None else {call.field_name: ("picture", call.body, "application/octet-stream")}
            # An empty form would not be sent as a multipart one.
            parts = {"files": {**files, **{name: (None, value) for name, value in call.form.items()}}}
        elif call.document is not None:
            parts = {"json": call.document}
        with requests.Session() as session:
            session.trust_env = False
            return session.post(url, headers=call.headers, timeout=60, **parts)

    def ask(self, body: bytes, **options: Any) -> dict[str, Any]:
        """Sends the picture's bytes as they are, options as headers, and reads the answer."""
        headers = {f"Gradcam-{name}": str(value) for name, value in options.items()}
        return document(self.post(Call(body, headers)))

    def post_json(self, path: str, body: Any, **headers: str) -> requests.Response:
        """Sends JSON to any path of the inference API, such as KServe's."""
        with requests.Session() as session:
            session.trust_env = False
            return session.post(f"{self.server.inference_url}{path}", json=body, headers=headers, timeout=60)

    def post_together(self, calls: Sequence[Call]) -> list[requests.Response]:
        """Sends requests at the same time; the answers come in the order of the calls."""
        with ThreadPoolExecutor(len(calls)) as pool:
            return list(pool.map(self.post, calls))

    def expected(self, pixels: Pixels, classes: Sequence[int]) -> Expected:
        """Runs the tutorial's algorithm on an RGB picture (H, W, 3)."""
        classes = classes or [0]  # for the probabilities
        key = (pixels.tobytes(), tuple(classes))
        if key not in self.known:
            self.known[key] = self._expected(pixels, list(classes))
        return self.known[key]

    def _expected(self, pixels: Pixels, classes: list[int]) -> Expected:
        image = oracles.model_input(
            Image.fromarray(pixels), crop_from=self.crop_from, mean=self.mean, std=self.std
        )  # (1, 3, 224, 224)
        layer = oracles.target_layer(self.network)
        observed = oracles.tutorial(self.network, layer, image.repeat(len(classes), 1, 1, 1), classes)
        probabilities = torch.softmax(observed.logits[0], dim=0).numpy()
        return Expected(probabilities, dict(zip(classes, observed.heatmaps.nan_to_num().numpy(), strict=True)))


def document(response: requests.Response) -> dict[str, Any]:
    """Reads an answer; fails on an error, on another type, and on JSON with white space in it."""
    assert response.status_code == 200, response.text
    assert response.headers.get("content-type") == "application/json"
    read: dict[str, Any] = response.json()
    assert response.text == json.dumps(read, separators=(",", ":"))
    return read


def error(response: requests.Response, status: int) -> tuple[str, str]:
    """Reads code and message of an error of this status."""
    assert response.status_code == status, response.text
    assert response.headers.get("content-type") == "application/json"
    read = response.json()
    assert response.text == json.dumps(read, separators=(",", ":"))
    assert read.keys() == {"error"}
    assert read["error"].keys() == {"code", "message"}
    return read["error"]["code"], read["error"]["message"]


# ----------------------------------------------------------------------------- comparing


def check(answer: dict[str, Any], model: Model, pixels: Pixels, targets: list[int] | int = 1, topk: int = 5) -> None:
    """Compares a whole answer with the tutorial's on the same pixels.

    Args:
        answer: as it came.
        model: that gave it.
        pixels: of the picture as sent, RGB, (H, W, 3).
        targets: the explained classes, or how many of the most probable ones.
        topk: how many classes are predicted.
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
        assert entry["evidence"] is bool(heatmap.max() > 0)
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
    """Checks that these are the most probable classes, in order."""
    assert len(predictions) == topk
    for entry in predictions:
        check_class(entry, model, expected)
    given = [entry["probability"] for entry in predictions]
    assert given == sorted(given, reverse=True)
    indices = [entry["index"] for entry in predictions]
    assert len(set(indices)) == topk
    others = np.delete(expected.probabilities, indices)
    assert others.size == 0 or others.max() <= given[-1] + PROBABILITY_TOLERANCE


def check_class(entry: dict[str, Any], model: Model, expected: Expected) -> None:
    """Checks label and probability of a class."""
    assert entry["label"] == model.labels[entry["index"]]
    assert abs(entry["probability"] - expected.probabilities[entry["index"]]) <= PROBABILITY_TOLERANCE


def check_overlay(drawn: Pixels, pixels: Pixels, heatmap: NDArray[np.float32], region: Sequence[int]) -> None:
    """Compares an overlay, RGB, with the tutorial's to the pixel, and with the picture outside the region.

    The tutorial cuts `255 * map` off to a whole number, so where that is whole to within the maps' tolerance either
    neighbour is right; those pixels are few.
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
    pictures: Sequence[Pixels],
    targets: list[int] | int = 1,
    topk: int = 5,
) -> None:
    """Compares the outputs of KServe's V2 protocol with the tutorial's on the same pictures.

    Args:
        tensors: by name, as JSON has them.
        model: that gave them.
        pictures: as sent, RGB, (H, W, 3).
        targets: the explained classes, or how many of the most probable ones.
        topk: how many classes are predicted.
    """
    n, t = len(pictures), targets if isinstance(targets, int) else len(targets)
    arrays = {name: np.asarray(tensor["data"]).reshape(tensor["shape"]) for name, tensor in tensors.items()}
    kinds = {name: (tensor["datatype"], tensor["shape"]) for name, tensor in tensors.items()}
    assert kinds == {
        "index": ("INT64", [n, topk]),
        "label": ("BYTES", [n, topk]),
        "probability": ("FP32", [n, topk]),
        "target": ("INT64", [n, t]),
        "evidence": ("BOOL", [n, t]),
        "peak": ("INT64", [n, t, 2]),
        "heatmap": ("FP32", [n, t, 7, 7]),
        "region": ("INT64", [n, 4]),
    }
    rows = {name: array.tolist() for name, array in arrays.items()}
    for number, pixels in enumerate(pictures):
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


# ----------------------------------------------------------------------------- pictures


def encoded(pixels: Pixels | Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """Encodes a picture with Pillow."""
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def decoded(data: bytes) -> Pixels:
    """Decodes a picture with Pillow alone, RGB."""
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


def from_data_url(url: str, kind: str) -> bytes:
    """Returns the bytes of a `data:` URL of this media type."""
    header, _, data = url.partition(",")
    assert header == f"data:image/{kind};base64"
    return base64.b64decode(data, validate=True)


def sample(seed: int, width: int = 310, height: int = 203) -> Pixels:
    """Returns a seeded picture, RGB, (H, W, 3)."""
    return np.asarray(oracles.seeded_image(width, height, seed))


# ----------------------------------------------------------------------------- archives


def rewritten(archive: Path, target: Path, changes: dict[str, bytes | None]) -> Path:
    """Copies an archive with some of its files replaced, or left out where the change is None."""
    with zipfile.ZipFile(archive) as source, zipfile.ZipFile(target, "w") as copy:
        for name in source.namelist():
            content = changes.get(name, source.read(name))
            if content is not None:
                copy.writestr(name, content)
    return target
