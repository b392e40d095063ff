"""Answers of a server, parsed from JSON."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Protocol

from tools.client.errors import OPTION_CODES, ImageError, ImageRejected, InvalidResponse, OptionRejected

Heatmap = Sequence[Sequence[float]]


class HttpResponse(Protocol):
    """What the responses of requests and of httpx have in common."""

    @property
    def status_code(self) -> int:
        """Status of the response."""

    @property
    def text(self) -> str:
        """Body of the response."""

    def json(self) -> Any:
        """Parse the body as JSON; raise ValueError if it is not."""


@dataclass(frozen=True)
class Prediction:
    """A class and its probability."""

    index: int
    label: str
    probability: float
    """In [0, 1]."""


@dataclass(frozen=True)
class Box:
    """A connected region of a map."""

    rectangle: tuple[int, int, int, int]
    """Left, top, right and bottom in pixels of the image; right and bottom are exclusive."""
    area: int
    """Pixels of the region."""
    mean: float
    """Mean of the map over the region, in [0, 1]."""


@dataclass(frozen=True)
class ModelIdentity:
    """What answered."""

    name: str
    version: str
    weights: str
    """The first 12 hexadecimal digits of the weights' SHA-256."""


@dataclass(frozen=True)
class Explanation(Prediction):
    """A class, its probability, and where in the image its evidence is."""

    peak: tuple[int, int] | None
    """Pixel (x, y) with the strongest evidence; None if there is no evidence for the class."""
    heatmap: Heatmap | None
    """Rows of a map with values in [0, 1], at the layer's resolution; None if it was not requested."""
    overlay: bytes | None
    """The image with the map drawn on it, a PNG or JPEG file; None if it was not requested."""
    strength: float | None = None
    """The map's maximum before its division by it, in units of the class's score; None from servers before 0.2."""
    boxes: tuple[Box, ...] = ()
    """Where the map reaches the share of its maximum that the option `boxes` names, largest first."""
    versus: Prediction | None = None
    """The class that this one is contrasted with."""


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
    model: ModelIdentity | None = None
    """None from servers before 0.2."""

    def classes(self) -> Iterator[tuple[Prediction, Explanation | None]]:
        """Yield each class with its explanation: the most probable classes, then other explained ones."""
        explanations = {entry.index: entry for entry in self.explanations}
        for entry in self.predictions:
            yield entry, explanations.pop(entry.index, None)
        yield from ((entry, entry) for entry in explanations.values())


def parse_answer(response: HttpResponse) -> Answer:
    """Parse the response to one image.

    Raises:
        ImageRejected: it is an error of the model's handler.
        ImageError: it is another error, such as TorchServe's or a proxy's.
        InvalidResponse: it is not the response of a Grad-CAM model.
    """
    if response.status_code >= HTTPStatus.BAD_REQUEST:
        raise response_error(response)
    try:
        body = response.json()
        return Answer(
            predictions=tuple(parse_prediction(entry) for entry in body["predictions"]),
            explanations=tuple(_explanation(entry) for entry in body["explanations"]),
            method=str(body["method"]),
            layer=str(body["layer"]),
            document=_without_overlays(body),
            model=ModelIdentity(**body["model"]) if "model" in body else None,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise invalid_response(response) from error


def invalid_response(response: HttpResponse) -> InvalidResponse:
    """Return the error for a response that is not that of a Grad-CAM model."""
    return InvalidResponse(f"the response is not that of a Grad-CAM model: {response.text[:80]}")


def response_error(response: HttpResponse) -> ImageError:
    """Return the error of a failed response from the handler, from TorchServe, or from a proxy between."""
    try:
        body = response.json()
    except ValueError:
        body = None
    match body:
        case {"error": {"code": code, "message": message}}:
            kind = OptionRejected if code in OPTION_CODES else ImageRejected
            return kind(str(code), str(message), response.status_code)
        case {"type": exception, "message": message}:
            return ImageError(f"{exception}: {message}")
        case _:
            return ImageError(f"HTTP {response.status_code} {_phrase(response.status_code)}".rstrip())


def _phrase(status: int) -> str:
    """Return the standard reason of a status; empty for one that has none."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


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
    strength = entry.get("strength")
    return Explanation(
        **vars(parse_prediction(entry)),
        peak=peak,
        heatmap=entry.get("heatmap"),
        overlay=_overlay(entry.get("overlay")),
        strength=None if strength is None else float(strength),
        boxes=tuple(_box(box) for box in entry.get("boxes", ())),
        versus=parse_prediction(entry["versus"]) if "versus" in entry else None,
    )


def _box(entry: Mapping[str, Any]) -> Box:
    left, top, right, bottom = map(int, entry["box"])
    return Box((left, top, right, bottom), int(entry["area"]), float(entry["mean"]))


def _overlay(url: str | None) -> bytes | None:
    if url is None:
        return None
    _, content = url.split(",", maxsplit=1)  # data:image/jpeg;base64,…
    return base64.b64decode(content, validate=True)


def _without_overlays(body: Mapping[str, Any]) -> dict[str, Any]:
    explanations = [{key: entry[key] for key in entry if key != "overlay"} for entry in body["explanations"]]
    return {**body, "explanations": explanations}
