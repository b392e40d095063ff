"""Explain images with each method at each layer, and measure the maps."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from gradcam.errors import RequestError
from gradcam.images.decoding import decode
from gradcam.images.geometry import CropGeometry
from gradcam.images.model_input import model_input, normalize
from gradcam.message import Request, Result
from gradcam.options import Options
from gradcam.pipeline import Pipeline
from tools.evaluation.baseline_maps import BASELINES, baseline
from tools.evaluation.measures import Scores, measure
from tools.evaluation.model import probability_of


@dataclass(frozen=True)
class MeasuredMap:
    """One map and its scores; a line of `pictures.csv`, whose columns are the fields' names.

    Attributes:
        picture: the image's name.
        index: of the predicted class.
        label: of the predicted class.
        probability: of the predicted class.
        method: of the explanation.
        layer: of the explanation.
        scores: of the map.
    """

    picture: str
    index: int
    label: str
    probability: float
    method: str
    layer: str
    scores: Scores


@dataclass(frozen=True)
class SkippedImage:
    """An image that cannot be explained."""

    name: str
    reason: str


def evaluate(
    pipeline: Pipeline, images: Sequence[tuple[str, Path]], methods: Sequence[str], layers: Sequence[str]
) -> Iterator[MeasuredMap | SkippedImage]:
    """Explain and measure images; yield each method's map at each layer, or the skipped image.

    Args:
        pipeline: split at the layers.
        images: the name and path of each.
        methods: of `cam.METHODS` and `BASELINES`.
        layers: names of modules.
    """
    for name, path in images:
        try:
            content = path.read_bytes()
            image, black = _inputs(pipeline, content)
            for layer in layers:
                explained = _explain(pipeline, content, methods, layer)
                for method, (result, heatmap) in explained.items():
                    predicted = result.predictions[0]
                    scores = measure(probability_of(pipeline, predicted.index), image, black, heatmap)
                    yield MeasuredMap(
                        name, predicted.index, predicted.label, predicted.probability, method, layer, scores
                    )
        except OSError as error:
            yield SkippedImage(name, f"Cannot read the file: {error.strerror}")
        except RequestError as error:
            yield SkippedImage(name, str(error))


def _inputs(pipeline: Pipeline, content: bytes) -> tuple[Tensor, Tensor]:
    """Return the model input of an image and of a black one, (3, H, W) each, normalized."""
    decoded = decode(content, pipeline.settings)
    view = CropGeometry.of(decoded.width, decoded.height, pipeline.settings)
    image = model_input(decoded.image, view, pipeline.settings.decoding)  # (3, H, W)
    image, black = normalize(torch.stack([image, torch.zeros_like(image)]), pipeline.settings)
    return image, black


def _explain(
    pipeline: Pipeline, content: bytes, methods: Sequence[str], layer: str
) -> dict[str, tuple[Result, Tensor]]:
    """Return each method's result and map (h, w); a baseline has the result of the first request.

    Raises:
        RequestError: the image cannot be explained.
    """
    served = [method for method in methods if method not in BASELINES]
    # Without a method, the request still returns the prediction.
    options = [Options(method=method, layer=(layer,)) for method in served] or [Options(explain=0)]
    results = [_result(answer) for answer in pipeline.answer([Request(content, option) for option in options])]
    maps = {
        method: (result, torch.from_numpy(result.explanations[0].heatmap))
        for method, result in zip(served, results, strict=False)
    }
    layout = pipeline.splits[layer].layout
    grid = (layout.height, layout.width)
    # The image itself is the seed, so its numbers do not depend on other images.
    seed = zlib.crc32(content)
    baselines = {name: (results[0], baseline(name, grid, seed)) for name in methods if name in BASELINES}
    return maps | baselines


def _result(answer: Result | RequestError) -> Result:
    if isinstance(answer, RequestError):
        raise answer
    return answer
