"""Results: logits and maps of one item to predictions, explanations and overlays."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timezone

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from gradcam.batch import Item
from gradcam.errors import InvalidOption, NumericalOverflow
from gradcam.explain import boxes, caption, overlay, provenance
from gradcam.explain.cam import Maps
from gradcam.explain.provenance import Provenance
from gradcam.images.geometry import Region
from gradcam.message import Explanation, Prediction, Result, ServedModel
from gradcam.network.labels import Labels
from gradcam.network.logits import probabilities as class_probabilities
from gradcam.options import Encoding
from gradcam.settings import Settings

DEFAULT_TOPK = 5


@dataclass(frozen=True)
class ExplainedMap:
    """A class and its map."""

    index: int
    heatmap: NDArray[np.float32]
    """(h, w) in [0, 1]."""
    strength: float


@dataclass(frozen=True)
class ResultBuilder:
    """The settings, labels and names that results are built with."""

    settings: Settings
    labels: Labels
    served: ServedModel

    def build(self, item: Item, logits: Tensor, targets: list[int], maps: Maps) -> Result:
        """Return the result of one item.

        Args:
            item: the request and its image.
            logits: of the K classes, (K,).
            targets: the n explained classes.
            maps: their n maps.

        Raises:
            NumericalOverflow: the network's numbers left the range of its precision.
            InvalidOption: the overlay's encoding does not support the image's size; or the reply should be an overlay,
                but no class reaches the threshold.
        """
        probabilities = class_probabilities(logits, self.settings.activation)  # (K,)
        if not all(values.isfinite().all() for values in (probabilities, *maps)):
            raise NumericalOverflow(
                f"Network's numbers overflow {self.settings.precision} on this image; serve the model with a precision "
                "of wider range, bfloat16 or float32"
            )
        if item.request.accept is not None and not targets:
            raise InvalidOption(
                f"threshold must be at most {float(probabilities.max()):.6g}, the highest probability, if 'Accept' "
                f"requests an image, got {item.request.options.threshold:g}; lower it, or request JSON"
            )
        topk = item.request.options.topk or min(DEFAULT_TOPK, self.settings.num_classes)
        geometry = item.prepared.geometry
        return Result(
            request=item.request,
            predictions=[self._prediction(index, probabilities) for index in most_probable(logits, topk)],
            explanations=[
                self._explanation(item, ExplainedMap(index, heatmap, strength), probabilities, first=number == 0)
                for number, (index, heatmap, strength) in enumerate(
                    zip(targets, maps.heatmaps.numpy(), maps.strengths.tolist(), strict=True)
                )
            ],
            method=item.method,
            layers=item.layers,
            width=geometry.width,
            height=geometry.height,
            region=geometry.region,
            model=self.served,
        )

    def _prediction(self, index: int, probabilities: Tensor) -> Prediction:
        return Prediction(index, self.labels.names[index], float(probabilities[index]))

    def _explanation(self, item: Item, explained: ExplainedMap, probabilities: Tensor, *, first: bool) -> Explanation:
        region, share = item.prepared.geometry.region, item.request.options.boxes
        explanation = Explanation(
            prediction=self._prediction(explained.index, probabilities),
            heatmap=explained.heatmap,
            strength=explained.strength,
            peak=_peak(explained.heatmap, region),
            overlay=None,
            versus=None if item.versus is None else self._prediction(item.versus, probabilities),
            boxes=None if share is None else boxes.find(explained.heatmap, region, share),
        )
        # A reply that is an overlay has only the first.
        if item.prepared.image is None or item.request.encoding is None or not (first or item.request.accept is None):
            return explanation
        return replace(explanation, overlay=self._overlay(item, explanation, item.request.encoding))

    def _overlay(self, item: Item, explanation: Explanation, encoding: Encoding) -> bytes:
        options, pixels = item.request.options, np.asarray(item.prepared.image)  # (H, W, 3)
        prediction, versus = explanation.prediction, explanation.versus
        origin = Provenance(
            model=self.served.name,
            version=self.served.version,
            weights=self.served.weights,
            index=prediction.index,
            label=prediction.label,
            probability=prediction.probability,
            method=item.method,
            layers=item.layers,
            strength=explanation.strength,
            time=datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
            versus="" if versus is None else f"{versus.label} (class {versus.index})",
        )
        drawn = overlay.render(explanation.heatmap, pixels, item.prepared.geometry.region, options)
        if options.caption:
            drawn = caption.add(drawn, origin, options)
        return provenance.embed(overlay.encode(drawn, encoding), encoding, origin)


def most_probable(logits: Tensor, count: int) -> list[int]:
    """Return the classes with the highest logits (K,); many unlikely classes have equal probabilities in float32."""
    indices: list[int] = logits.topk(count).indices.tolist()
    return indices


def _peak(heatmap: NDArray[np.float32], region: Region) -> tuple[int, int] | None:
    """Return x and y of the center of the map's highest cell, in the image; None for a map that is all 0."""
    if not heatmap.any():
        return None
    row, column = np.unravel_index(heatmap.argmax(), heatmap.shape)
    height, width = heatmap.shape
    return (
        region.left + int((column + 0.5) / width * (region.right - region.left)),
        region.top + int((row + 0.5) / height * (region.bottom - region.top)),
    )
