"""Answers of a server, parsed from JSON."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import requests

from tools.client.errors import ImageError, ImageRejected, InvalidResponse

Heatmap = Sequence[Sequence[float]]


@dataclass(frozen=True)
class Prediction:
    """A class and its probability."""

    index: int
    label: str
    probability: float
    """In [0, 1]."""


@dataclass(frozen=True)
class Explanation(Prediction):
    """A class, its probability, and where in the image its evidence is."""

    peak: tuple[int, int] | None
    """Pixel (x, y) with the strongest evidence; None if there is no evidence for the class."""
    heatmap: Heatmap | None
    """Rows of a map with values in [0, 1], at the layer's resolution; None if it was not requested."""
    overlay: bytes | None
    """The image with the map drawn on it, a PNG or JPEG file; None if it was not requested."""


@dataclass(frozen=True)
class Answer:
    """Predictions and explanations of one image."""

    predictions: tuple[Prediction, ...]
    """The most probable classes, in descending order."""
    explanations: tuple[Explanation, ...]
    method: str
    layer: str
    document: Mapping[str, Any]
    """The JSON object of the response, without overlays."""


def parse_answer(response: requests.Response) -> Answer:
    """Parse the response to one image.

    Raises:
        ImageRejected: it is an error of the model's handler.
        ImageError: it is another error, such as TorchServe's or a proxy's.
        InvalidResponse: it is not the response of a Grad-CAM model.
    """
    if not response.ok:
        raise response_error(response)
    try:
        body = response.json()
        return Answer(
            predictions=tuple(parse_prediction(entry) for entry in body["predictions"]),
            explanations=tuple(_explanation(entry) for entry in body["explanations"]),
            method=str(body["method"]),
            layer=str(body["layer"]),
            document=_without_overlays(body),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise invalid_response(response) from error


def invalid_response(response: requests.Response) -> InvalidResponse:
    """Return the error for a response that is not that of a Grad-CAM model."""
    return InvalidResponse(f"the response is not that of a Grad-CAM model: {response.text[:80]}")


def response_error(response: requests.Response) -> ImageError:
    """Return the error of a failed response from the handler, from TorchServe, or from a proxy between."""
    try:
        body = response.json()
    except requests.JSONDecodeError:
        body = None
    match body:
        case {"error": {"code": code, "message": message}}:
            return ImageRejected(str(code), str(message), response.status_code)
        case {"type": kind, "message": message}:
            return ImageError(f"{kind}: {message}")
        case _:
            return ImageError(f"HTTP {response.status_code} {response.reason}")


def parse_prediction(entry: Mapping[str, Any]) -> Prediction:
    """Parse one member of `predictions`.

    Raises:
        KeyError, TypeError, ValueError: it is malformed.
    """
    return Prediction(int(entry["index"]), str(entry["label"]), float(entry["probability"]))


def _explanation(entry: Mapping[str, Any]) -> Explanation:
    peak = None
    if entry["evidence"]:
        x, y = entry["peak"]
        peak = int(x), int(y)
    return Explanation(
        **vars(parse_prediction(entry)), peak=peak, heatmap=entry.get("heatmap"), overlay=_overlay(entry.get("overlay"))
    )


def _overlay(url: str | None) -> bytes | None:
    if url is None:
        return None
    _, content = url.split(",", maxsplit=1)  # data:image/jpeg;base64,…
    return base64.b64decode(content, validate=True)


def _without_overlays(body: Mapping[str, Any]) -> dict[str, Any]:
    explanations = [{key: entry[key] for key in entry if key != "overlay"} for entry in body["explanations"]]
    return {**body, "explanations": explanations}
