"""A server's answer about one image, parsed from any protocol."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tools.client.answers import Prediction, parse_prediction

Region = tuple[int, int, int, int]


class MalformedAnswer(Exception):
    """The answer does not have the form of its protocol."""


@dataclass(frozen=True)
class ExplainedClass:
    """One class with its heatmap.

    Attributes:
        index: of the class.
        probability: of the class; None in KServe V2, which does not state it.
        evidence: whether any part of the image supports the class.
        heatmap: (h, w).
        peak: pixel (x, y) with the strongest evidence; None without evidence.
        overlay: an image file; None if none was sent.
    """

    index: int
    probability: float | None
    evidence: bool
    heatmap: NDArray[np.float64]
    peak: tuple[int, int] | None
    overlay: bytes | None


@dataclass(frozen=True)
class ParsedAnswer:
    """A server's answer about one image.

    Attributes:
        predictions: the most probable classes.
        explained: the explained classes.
        region: left, top, right, bottom of the part of the image that the network sees.
        size: width and height; None in KServe V2, which does not state it.
    """

    predictions: tuple[Prediction, ...]
    explained: tuple[ExplainedClass, ...]
    region: Region
    size: tuple[int, int] | None


def parse(document: Any) -> ParsedAnswer:
    """Parse the answer of a protocol that takes one image."""
    image = document["image"]
    return ParsedAnswer(
        predictions=tuple(parse_prediction(entry) for entry in document["predictions"]),
        explained=tuple(
            ExplainedClass(
                index=int(entry["index"]),
                probability=float(entry["probability"]),
                evidence=entry["evidence"] is True,
                heatmap=np.asarray(entry["heatmap"], float),
                peak=None if entry["peak"] is None else point(entry["peak"]),
                overlay=decode_data_url(entry["overlay"]) if "overlay" in entry else None,
            )
            for entry in document["explanations"]
        ),
        region=region(image["region"]),
        size=point([image["width"], image["height"]]),
    )


def parse_instances(document: Any) -> ParsedAnswer:
    """Parse the answer of KServe V1 to one instance."""
    (only,) = document["predictions"]
    return parse(only)


def parse_tensors(document: Any) -> ParsedAnswer:
    """Parse the answer of KServe V2 to one image."""
    tensors = {tensor["name"]: np.reshape(tensor["data"], tensor["shape"])[0] for tensor in document["outputs"]}
    predicted = zip(tensors["index"], tensors["label"], tensors["probability"], strict=True)
    classes = tensors.get("target", np.empty(0, int))
    return ParsedAnswer(
        predictions=tuple(
            Prediction(int(index), str(label), float(probability)) for index, label, probability in predicted
        ),
        explained=tuple(
            ExplainedClass(
                index=int(index),
                probability=None,
                evidence=bool(tensors["evidence"][place]),
                heatmap=tensors["heatmap"][place],
                peak=point(tensors["peak"][place]) if tensors["evidence"][place] else None,
                overlay=decode_data_url(str(tensors["overlay"][place])) if "overlay" in tensors else None,
            )
            for place, index in enumerate(classes)
        ),
        region=region(tensors["region"]),
        size=None,
    )


def point(numbers: Iterable[Any]) -> tuple[int, int]:
    """Return two integers."""
    x, y = map(int, numbers)
    return x, y


def region(numbers: Iterable[Any]) -> Region:
    """Return left, top, right, and bottom."""
    left, top, right, bottom = map(int, numbers)
    return left, top, right, bottom


def decode_data_url(url: str) -> bytes:
    """Return the content of a `data:` URL."""
    return base64.b64decode(url.partition(",")[2], validate=True)


def torchserve_error(text: str) -> tuple[str, str] | None:
    """Return type and message of an error from TorchServe itself; None for the handler's errors."""
    try:
        document = json.loads(text)
    except json.JSONDecodeError:
        return "without JSON", text
    match document:
        case {"type": str(kind), "message": str(message)}:
            return kind, message
        case _:
            return None
