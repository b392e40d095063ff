"""Values that travel between the protocols and the pipeline."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gradcam.errors import RequestError
from gradcam.explain.boxes import Box
from gradcam.images.geometry import Region
from gradcam.images.pixels import RawPixels
from gradcam.options import Encoding, Options

WEIGHTS_DIGITS = 12


@dataclass(frozen=True)
class Request:
    """One image and its options."""

    image: bytes | RawPixels
    """The file, or pixels without a format."""
    options: Options
    accept: Encoding | None = None
    """Encoding of the overlay that is returned instead of JSON; None: JSON."""
    images_in_request: int = 1
    """Number of images in the request group, including this one; they share the limits of one request."""

    @property
    def encoding(self) -> Encoding | None:
        """Encoding of the overlay; None without an overlay."""
        return self.accept or (None if self.options.overlay == "none" else self.options.overlay)


@dataclass(frozen=True)
class Prediction:
    """A class and its probability in [0, 1]."""

    index: int
    label: str
    probability: float


@dataclass(frozen=True)
class Explanation:
    """The evidence for one class."""

    prediction: Prediction
    heatmap: NDArray[np.float32]
    """(h, w) in [0, 1], maximum 1; all 0 without evidence for the class."""
    strength: float
    """The map's maximum before the division by it, in units of the explained score; 0 without evidence."""
    peak: tuple[int, int] | None
    """x and y of the map's maximum, in pixels of the image as sent; None for a map that is all 0."""
    overlay: bytes | None
    """The encoded overlay, if requested."""
    versus: Prediction | None = None
    """The class that it is contrasted with, if requested."""
    boxes: list[Box] | None = None
    """Where the map reaches the requested share of its maximum, the largest first; None: not requested."""

    @property
    def evidence(self) -> bool:
        """Whether any part of the image is evidence for the class."""
        return self.peak is not None


@dataclass(frozen=True)
class ServedModel:
    """What identifies the model in answers."""

    name: str
    version: str
    weights: str
    """The first `WEIGHTS_DIGITS` hexadecimal digits of the weights' SHA-256."""

    @classmethod
    def of(cls, weights_sha256: str, name: str, version: str = "unversioned") -> ServedModel:
        """Return the model with these weights."""
        return cls(name, version, weights_sha256[:WEIGHTS_DIGITS])


@dataclass(frozen=True)
class Result:
    """Predictions and explanations of one image."""

    request: Request
    predictions: list[Prediction]
    explanations: list[Explanation]
    method: str
    layers: tuple[str, ...]
    width: int
    """Width of the oriented image as sent, in pixels."""
    height: int
    region: Region
    """Part of the image that the network sees."""
    model: ServedModel


@dataclass(frozen=True)
class Reply:
    """A response to the client, independent of the server."""

    status: int
    phrase: str
    content_type: str
    body: str | bytes
    errors: tuple[RequestError, ...] = ()
    """Errors of the images that failed: of all images, or in KServe's protocols of some."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Further response headers."""


@dataclass(frozen=True)
class RequestGroup:
    """The requests of one HTTP message or gRPC call: one image, or several in KServe's protocols."""

    requests: list[Request | RequestError]
    reply: Callable[[Sequence[Result | RequestError]], Reply]
    """Renders one result per request as the reply in the client's format."""
