"""Results: logits and maps of one item to predictions, explanations and overlays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from gradcam.batch import Item
from gradcam.errors import NumericalOverflow
from gradcam.explain import overlay
from gradcam.explain.cam import Maps
from gradcam.images.geometry import Region
from gradcam.message import Explanation, Prediction, Result, ServedModel
from gradcam.network.labels import Labels
from gradcam.settings import Settings

DEFAULT_TOPK = 5


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
            InvalidOption: the overlay's encoding does not support the image's size.
        """
        probabilities = logits.softmax(dim=0)  # (K,)
        if not all(values.isfinite().all() for values in (probabilities, *maps)):
            raise NumericalOverflow(
                f"Network's numbers overflow {self.settings.precision} on this image; serve the model with a precision "
                "of wider range, bfloat16 or float32"
            )
        topk = item.request.options.topk or min(DEFAULT_TOPK, self.settings.num_classes)
        geometry = item.prepared.geometry
        return Result(
            request=item.request,
            predictions=[self._prediction(index, probabilities) for index in most_probable(logits, topk)],
            explanations=[
                self._explanation(item, self._prediction(index, probabilities), heatmap, strength, first=number == 0)
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

    def _explanation(
        self, item: Item, prediction: Prediction, heatmap: NDArray[np.float32], strength: float, *, first: bool
    ) -> Explanation:
        region = item.prepared.geometry.region
        # A reply that is an overlay has only the first.
        draws = first or item.request.accept is None
        encoded = None
        if draws and item.prepared.image is not None and item.request.encoding is not None:
            options, pixels = item.request.options, np.asarray(item.prepared.image)  # (H, W, 3)
            drawn = overlay.draw(heatmap, pixels, region, options.colormap, options.alpha)
            encoded = overlay.encode(drawn, item.request.encoding)
        return Explanation(prediction, heatmap, strength, _peak(heatmap, region), encoded)


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
