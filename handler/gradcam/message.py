"""What travels: a client's message with its requests, and a result for each of these."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gradcam.errors import RequestError
from gradcam.images.geometry import Region
from gradcam.options import Encoding, Options


@dataclass(frozen=True)
class Request:
    """One picture and what is asked about it."""

    image: bytes
    options: Options
    accept: Encoding | None = None
    """The answer is to be the overlay itself, in this encoding, instead of JSON."""
    images_in_request: int = 1
    """How many pictures the message has, this one too; they share what one message may cost."""

    @property
    def encoding(self) -> Encoding | None:
        """Of the overlay; None where no overlay is asked for."""
        return self.accept or (None if self.options.overlay == "none" else self.options.overlay)


@dataclass(frozen=True)
class Prediction:
    """A class and its probability in [0, 1]."""

    index: int
    label: str
    probability: float


@dataclass(frozen=True)
class Explanation:
    """What spoke for one class."""

    prediction: Prediction
    heatmap: NDArray[np.float32]
    """(h, w) in [0, 1], maximum 1; all 0 where nothing speaks for the class."""
    peak: tuple[int, int] | None
    """x and y of the map's maximum, in pixels of the picture as sent; None for a map that is all 0."""
    overlay: bytes | None
    """The encoded overlay, where one was asked for."""

    @property
    def evidence(self) -> bool:
        """Whether anything speaks for the class."""
        return self.peak is not None


@dataclass(frozen=True)
class Result:
    """The answer to one request."""

    request: Request
    predictions: list[Prediction]
    explanations: list[Explanation]
    method: str
    layers: tuple[str, ...]
    width: int
    height: int
    region: Region


@dataclass(frozen=True)
class Reply:
    """What goes back to the client."""

    status: int
    phrase: str
    content_type: str
    body: str | bytes
    errors: tuple[RequestError, ...] = ()
    """What is refused: all of it, or some of KServe's pictures."""


@dataclass(frozen=True)
class RequestGroup:
    """What came from a client at once: one request, or several in KServe's formats."""

    requests: list[Request | RequestError]
    reply: Callable[[Sequence[Result | RequestError]], Reply]
    """Takes a result for each request to the reply in the client's format."""
