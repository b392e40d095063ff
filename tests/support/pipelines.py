"""Pipelines of a small ResNet-18 with random weights, and requests and answers of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from gradcam.errors import RequestError
from gradcam.explain.cam import METHODS
from gradcam.message import Request, Result
from gradcam.network.labels import Labels
from gradcam.options import Encoding, Options
from gradcam.pipeline import Pipeline
from tests.support import oracles
from tests.support.encoding import encoded
from tests.support.settings import settings

CPU = torch.device("cpu")
LAYER = "layer4.1.conv2"
LABELS = Labels(("tench", "cat", "dog", "hen", "crane", "ibex", "newt", "crane", "Egyptian cat", "owl"))
# A busy machine takes longer than a server should.
PATIENT = {"max_batch_seconds": 50.0, "max_delay_seconds": 50.0}
SETTINGS = settings(
    num_classes=10, input_size=(96, 128), engine="eager", resize_size=140, methods=METHODS, max_passes=600, **PATIENT
)

# Wide, high, smaller than the input, as large as the input, and square.
IMAGES = [
    oracles.seeded_image(width, height, seed)
    for seed, (width, height) in enumerate([(300, 200), (150, 310), (50, 40), (128, 96), (211, 211)])
]


def png(image: Image.Image) -> bytes:
    """Encode an image as PNG."""
    return encoded(image, "PNG")


def ask(image: Image.Image, accept: Encoding | None = None, **options: Any) -> Request:
    """Return a request for an image."""
    return Request(png(image), Options(**options), accept)


def answer(pipeline: Pipeline, *requests: Request | RequestError) -> list[Result | RequestError]:
    """Take requests through all steps of the pipeline."""
    return pipeline.answer(requests)


def result(pipeline: Pipeline, request: Request) -> Result:
    """Return the result of a request that succeeds."""
    (only,) = answer(pipeline, request)
    assert isinstance(only, Result), only
    return only


def rejection(pipeline: Pipeline, request: Request) -> RequestError:
    """Return the error of a request that fails."""
    (only,) = answer(pipeline, request)
    assert isinstance(only, RequestError)
    return only


def heatmaps(results: Sequence[Result | RequestError]) -> list[NDArray[np.float32]]:
    """Return the maps of all results."""
    return [
        explanation.heatmap
        for answered in results
        if isinstance(answered, Result)
        for explanation in answered.explanations
    ]


def assert_same_answer(ours: Result | RequestError, theirs: Result | RequestError, tolerance: float = 5e-5) -> None:
    """Check that two results have equal classes, and equal maps and probabilities within a tolerance."""
    assert isinstance(ours, Result)
    assert isinstance(theirs, Result)
    assert [p.index for p in ours.predictions] == [p.index for p in theirs.predictions]
    assert [p.label for p in ours.predictions] == [p.label for p in theirs.predictions]
    actual, expected = ([p.probability for p in answered.predictions] for answered in (ours, theirs))
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance)
    assert [e.prediction.index for e in ours.explanations] == [e.prediction.index for e in theirs.explanations]
    for mine, other in zip(ours.explanations, theirs.explanations, strict=True):
        np.testing.assert_allclose(mine.heatmap, other.heatmap, rtol=0, atol=tolerance)
        assert mine.peak == other.peak


def with_settings(pipeline: Pipeline, **changes: Any) -> Pipeline:
    """Return a pipeline of the same network with other settings."""
    return Pipeline(pipeline.network, LABELS, dataclasses.replace(SETTINGS, **changes), CPU)
