"""Compare answers with what the same server answered when it was idle.

`mismatches` compares two parsed answers; `RecordedAnswer` compares raw responses. The tests' oracles, which compute
answers independently with PyTorch, do not use this module.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from http import HTTPStatus
from itertools import combinations
from typing import Any

import numpy as np
from PIL import Image

from tools.client.answers import Prediction
from tools.load.answer import ExplainedClass, MalformedAnswer, ParsedAnswer, Region
from tools.load.connection import Connection
from tools.load.protocols import PROTOCOLS
from tools.load.request import TestRequest


@dataclass(frozen=True)
class Tolerance:
    """How much the numbers of two answers to the same request may differ."""

    probability: float
    heatmap: float


# A request's position in a batch changes float32 results by this much; those of two requests differ by far more.
FLOAT32 = Tolerance(probability=2e-6, heatmap=1e-4)
# In half precision, results depend on the rest of the batch; another image's differ by more.
HALF_PRECISION = Tolerance(probability=0.02, heatmap=0.05)


@dataclass(frozen=True)
class Expectation:
    """The options of a request and what its answer contains.

    Attributes:
        options: sent with the image.
        classes: the explained classes, or how many of the most probable ones.
        overlay: whether each explained class has an overlay.
    """

    options: Mapping[str, str] = field(default_factory=dict)
    classes: tuple[int, ...] | int = 1
    overlay: bool = False


def mismatches(
    answer: ParsedAnswer, expectation: Expectation, reference: ParsedAnswer, tolerance: Tolerance = HALF_PRECISION
) -> Iterator[str]:
    """Yield every difference between an answer and what it should be.

    Args:
        answer: to check.
        expectation: what the request asked for.
        reference: an answer about the same image, recorded while the server was idle.
        tolerance: of probabilities and heatmaps.
    """
    if answer.region != reference.region or (answer.size and reference.size and answer.size != reference.size):
        yield "another size or region"
    yield from _prediction_mismatches(answer.predictions, reference.predictions, tolerance)
    predicted = tuple(entry.index for entry in answer.predictions)
    classes = expectation.classes if isinstance(expectation.classes, tuple) else predicted[: expectation.classes]
    if tuple(entry.index for entry in answer.explained) != classes:
        yield "other classes explained"
    references = {entry.index: entry for entry in reference.explained}
    shape = reference.explained[0].heatmap.shape
    for entry in answer.explained:
        yield from _heatmap_mismatches(entry, shape, reference.region)
        if entry.index in references:
            yield from _explanation_mismatches(entry, references[entry.index], tolerance)
        if (entry.overlay is not None) != expectation.overlay or not _overlay_has_size(entry.overlay, reference.size):
            yield "overlay missing or not an image of the right size" if expectation.overlay else "unrequested overlay"


def _prediction_mismatches(
    predictions: Sequence[Prediction], reference: Sequence[Prediction], tolerance: Tolerance
) -> Iterator[str]:
    """Yield what differs in the most probable classes; equally probable classes may change places."""
    probabilities, reference_probabilities = (
        [entry.probability for entry in entries] for entries in (predictions, reference)
    )
    if len(predictions) != len(reference) or not close(probabilities, reference_probabilities, tolerance.probability):
        yield "other probabilities"
    classes = {entry.index: entry for entry in reference}
    for entry in predictions:
        expected = classes.get(entry.index)
        if expected is not None and entry.label != expected.label:
            yield "another label"
        if abs(entry.probability - (expected or reference[-1]).probability) > tolerance.probability:
            yield "other classes"


def _heatmap_mismatches(entry: ExplainedClass, shape: tuple[int, ...], region: Region) -> Iterator[str]:
    """Yield what is wrong with an explained class by itself."""
    if entry.heatmap.shape != shape or not entry.heatmap.size:
        yield "heatmap has another shape"
    elif entry.heatmap.min() < 0 or entry.heatmap.max() != float(entry.evidence):
        yield "heatmap does not range from 0 to 1"
    left, top, right, bottom = region
    if (entry.peak is not None) != entry.evidence:
        yield "peak without evidence, or evidence without peak"
    elif entry.peak is not None and not (left <= entry.peak[0] < right and top <= entry.peak[1] < bottom):
        yield "peak outside the region"


def _explanation_mismatches(entry: ExplainedClass, reference: ExplainedClass, tolerance: Tolerance) -> Iterator[str]:
    """Yield what differs between two explanations of the same class."""
    if entry.heatmap.shape != reference.heatmap.shape or not close(entry.heatmap, reference.heatmap, tolerance.heatmap):
        yield "another heatmap"
    if (
        entry.probability is not None
        and reference.probability is not None
        and not close(entry.probability, reference.probability, tolerance.probability)
    ):
        yield "another probability of an explained class"


def _overlay_has_size(overlay: bytes | None, size: tuple[int, int] | None) -> bool:
    """Tell whether an overlay, if there is one, is an image of the right size."""
    if overlay is None:
        return True
    try:
        with Image.open(io.BytesIO(overlay)) as image:
            return size in (None, image.size)
    except OSError:
        return False


def close(numbers: Any, others: Any, tolerance: float) -> bool:
    """Tell whether all numbers are equal to within a tolerance."""
    return bool(np.allclose(numbers, others, rtol=0, atol=tolerance))


# ----------------------------------------------------------------------------- recorded answers


class AmbiguousAnswers(Exception):
    """The answers to two requests cannot be told apart."""


@dataclass(frozen=True)
class RecordedAnswer:
    """The response to a raw request while the server was idle; the same under any load."""

    status: int
    text: str

    @cached_property
    def parsed(self) -> ParsedAnswer:
        """The parsed response.

        Raises:
            MalformedAnswer: the response is not an answer of a Grad-CAM model.
        """
        return PROTOCOLS["raw"].parse(self.text.encode())

    def matches(self, status: int, text: str) -> bool:
        """Tell whether a response is the same answer, to rounding."""
        if status != HTTPStatus.OK or self.status != HTTPStatus.OK:
            return (status, text) == (self.status, self.text)
        expectation = Expectation(classes=tuple(entry.index for entry in self.parsed.explained))
        try:
            answer = PROTOCOLS["raw"].parse(text.encode())
        except MalformedAnswer:
            return False
        return next(mismatches(answer, expectation, self.parsed, FLOAT32), None) is None


def record_baseline(url: str, requests: Sequence[TestRequest]) -> list[RecordedAnswer]:
    """Send each request once while the server is idle, and return the answers.

    Raises:
        AmbiguousAnswers: an answer would also pass for the answer to another request.
        ConnectionError: a request got no response.
    """
    answers = []
    with Connection(url) as connection:
        for request in requests:
            exchange = connection.post(request)
            if exchange.failure:
                raise ConnectionError(f"No response from {url}: {exchange.failure}")
            answers.append(RecordedAnswer(exchange.status, exchange.body.decode()))
    for answer, other in combinations(answers, 2):
        if answer.matches(other.status, other.text):
            raise AmbiguousAnswers(f"Two requests have the same answer: {answer.text[:200]}")
    return answers
