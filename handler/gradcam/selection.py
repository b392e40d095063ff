"""Selection of the classes to explain, once the logits of an image are known."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from gradcam.admission import Admission
from gradcam.batch import Item
from gradcam.errors import TooMany
from gradcam.network.logits import probabilities
from gradcam.results import most_probable
from gradcam.settings import Settings


@dataclass(frozen=True)
class Selection:
    """The settings and checks that classes are selected with."""

    settings: Settings
    admission: Admission

    def targets(self, item: Item, logits: Tensor) -> list[int]:
        """Return the classes to explain for one image: the named ones, or the most probable ones except `versus`.

        Args:
            item: the request and its image.
            logits: of the K classes, (K,).

        Raises:
            TooMany: more classes reach the threshold than the settings allow.
            TooLarge: their overlays have more pixels than the settings allow.
        """
        if item.targets is not None:
            return list(item.targets)
        options = item.request.options
        if options.threshold is None:
            count = options.explained_classes
            ranked = most_probable(logits, count if item.versus is None else count + 1)
            return [index for index in ranked if index != item.versus][:count]
        ranked = [index for index in most_probable(logits, len(logits)) if index != item.versus]
        reached = (probabilities(logits, self.settings.activation) >= options.threshold).tolist()
        count = sum(reached[index] for index in ranked)
        self._check_count(count, item.request.images_in_request, options.threshold)
        geometry = item.prepared.geometry
        self.admission.check_overlays(item.request, geometry.width * geometry.height, count)
        return ranked[:count]

    def _check_count(self, count: int, images_in_request: int, threshold: float) -> None:
        limit = self.settings.max_targets // images_in_request
        if count > limit:
            raise TooMany(
                f"Explained classes of one image must be at most {limit} ({self.settings.max_targets} per request, "
                f"{images_in_request} images), but {count} classes reach the threshold {threshold:g}; raise it",
                "too_many_targets",
            )
