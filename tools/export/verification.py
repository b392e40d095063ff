"""Compare a written file with the pipeline, before anyone gets the file."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from gradcam.explain.cam import Maps
from gradcam.explain.explainer import ForwardPass, Pair
from gradcam.images import decoding
from gradcam.images.geometry import CropGeometry
from gradcam.images.model_input import model_input, normalize
from gradcam.network.logits import probabilities
from gradcam.pipeline import Pipeline
from tools.export.graph import Explained, Precision
from tools.export.methods import ExportError
from tools.export.runtimes import Run

BATCHES = (1, 2, 7)


@dataclass(frozen=True)
class Tolerance:
    """Largest accepted differences from the pipeline."""

    probability: float
    heatmap: float
    """Of maps whose maximum is 1."""
    strength: float
    """Relative to the strength."""


TOLERANCES: dict[Precision, Tolerance] = {
    "float32": Tolerance(probability=1e-5, heatmap=1e-4, strength=1e-3),
    "float16": Tolerance(probability=1e-2, heatmap=5e-2, strength=5e-2),
}


class Reference:
    """What the pipeline answers for images at the network's input size."""

    def __init__(self, explained: Explained, images: Tensor) -> None:
        """Run the network.

        Args:
            explained: whose pipeline answers, at the same layer, with the same method.
            images: (B, H, W, 3), uint8.
        """
        pipeline, layer = explained.pipeline, explained.parts.layer
        self.method = explained.method
        self.explainer = pipeline.explainer
        pipeline.splits.prepare(layer, math.inf)
        parts = pipeline.splits[layer]
        with torch.inference_mode():
            normalized = normalize(images.permute(0, 3, 1, 2), pipeline.settings)  # (B, H, W, 3) → (B, 3, H, W)
            features = parts.features(normalized).float()
            logits = parts.logits(features)  # (B, K)
            self.forward = ForwardPass(parts, normalized, features, logits)
            self.probability = probabilities(logits, pipeline.settings.activation).numpy()  # (B, K)
            self.ranked = logits.sort(dim=1, descending=True, stable=True).indices.numpy()  # (B, K)

    def maps(self, index: NDArray[np.int64]) -> Maps:
        """Return the maps of the classes `index` (B, T), as (B·T, h, w)."""
        pairs = [Pair(row, int(target), self.method) for row, targets in enumerate(index) for target in targets]
        with torch.enable_grad():
            return self.explainer.maps(self.forward, pairs, math.inf)[0]


def verify(run: Run, explained: Explained, images: Tensor, tolerance: Tolerance) -> None:
    """Run a file at several sizes of batches, with several targets, and compare its outputs with the pipeline's.

    Args:
        run: runs the file.
        explained: what it was made from.
        images: (n, H, W, 3), uint8; used in batches of `BATCHES` in turn, until each has been used.
        tolerance: the largest accepted differences.

    Raises:
        ExportError: a difference is larger; the message says of which output, in which batch, and where in it.
    """
    classes = explained.pipeline.settings.num_classes
    for batch, target in _cases(images, classes):
        size, targets = target.shape
        where = f"{size} images with {targets} targets each"
        reference = Reference(explained, batch)
        try:
            outputs: dict[str, NDArray[Any]] = run(batch, target)
        except Exception as error:  # runtimes raise errors of their own
            raise ExportError(f"The written file fails for {where}: {error}") from error
        _compare(outputs, reference, target.numpy(), tolerance, where)


def _cases(images: Tensor, classes: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield images and targets: the most probable classes, and named ones among them."""
    rows = (-1,), (-1, classes - 1, -1), (0, -1)
    start = 0
    for number in range(max(len(BATCHES), math.ceil(len(images) * len(BATCHES) / sum(BATCHES)))):
        size, row = BATCHES[number % len(BATCHES)], rows[number % len(rows)]
        indices = torch.arange(start, start + size) % len(images)
        yield images[indices], torch.tensor(row).repeat(size, 1)  # (B, H, W, 3), (B, T)
        start += size


def _compare(
    outputs: dict[str, NDArray[Any]], reference: Reference, target: NDArray[np.int64], tolerance: Tolerance, where: str
) -> None:
    _check("probability", outputs["probability"], reference.probability, tolerance.probability, where)
    index = outputs["index"]
    named = target >= 0
    rank = np.minimum(np.cumsum(~named, axis=1) - 1, reference.ranked.shape[1] - 1).clip(0)
    expected = np.where(named, target, np.take_along_axis(reference.ranked, rank, axis=1))
    # Classes of equal probability may change places.
    ours, theirs = (np.take_along_axis(reference.probability, classes, axis=1) for classes in (index, expected))
    _check("probability of index", ours, theirs, tolerance.probability, where)
    if not np.array_equal(index[named], target[named]):
        raise ExportError(f"index must be the target, got {index.tolist()} for {target.tolist()} with {where}")
    maps = reference.maps(index)
    shape = outputs["heatmap"].shape
    strengths = maps.strengths.numpy().reshape(index.shape)  # (B, T)
    _check("heatmap", outputs["heatmap"], maps.heatmaps.numpy().reshape(shape), tolerance.heatmap, where)
    scale = np.maximum(strengths, np.finfo(np.float32).tiny)
    _check("strength", outputs["strength"] / scale, strengths / scale, tolerance.strength, where)
    if not np.array_equal(outputs["evidence"], strengths > 0):
        raise ExportError(f"evidence differs from the pipeline's with {where}")


def _check(name: str, ours: NDArray[Any], expected: NDArray[Any], limit: float, where: str) -> None:
    difference = np.abs(ours - expected)
    if not difference.max() <= limit:  # also if it is NaN
        at = [int(position) for position in np.unravel_index(difference.argmax(), difference.shape)]
        raise ExportError(
            f"{name} must equal the pipeline's within {limit:g}, but differs by {difference.max():.3g} at {at} "
            f"with {where}"
        )


def random_images(input_size: tuple[int, int], count: int = sum(BATCHES)) -> Tensor:
    """Return seeded images (count, H, W, 3), uint8, of coarse colored blocks with noise, as photos have both."""
    generator = torch.Generator().manual_seed(0)
    height, width = input_size
    blocks = torch.rand(count, 3, 6, 6, generator=generator)
    smooth = functional.interpolate(blocks, (height, width), mode="bilinear")  # (count, 3, H, W)
    noise = torch.rand(count, 3, height, width, generator=generator) - 0.5
    return ((smooth + 0.2 * noise).clamp(0, 1) * 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def prepared_images(pipeline: Pipeline, paths: Sequence[Path]) -> Tensor:
    """Return image files as the pipeline prepares them, (n, H, W, 3), uint8.

    Raises:
        RequestError: a file is not a valid image.
    """
    prepared = []
    for path in paths:
        decoded = decoding.decode(path.read_bytes(), pipeline.settings, full_resolution=False)
        geometry = CropGeometry.of(decoded.width, decoded.height, pipeline.settings)
        prepared.append(model_input(decoded.image, geometry, pipeline.settings.decoding))  # (3, H, W)
    return torch.stack(prepared).permute(0, 2, 3, 1).contiguous()  # (n, 3, H, W) → (n, H, W, 3)
