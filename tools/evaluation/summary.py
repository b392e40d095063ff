"""Means and standard errors of the measures over images."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, fields

from tools.evaluation.measurement import MeasuredMap
from tools.evaluation.measures import Scores

HIGHER_IS_BETTER = {
    "deletion": False,
    "insertion": True,
    "drop_percent": False,
    "increase_percent": True,
    "road": True,
}


@dataclass(frozen=True)
class Estimate:
    """A mean over images, and its standard error: NaN for a single image."""

    mean: float
    error: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Estimate:
        """Return the mean and s / √n, where s is the sample's standard deviation."""
        deviation = statistics.stdev(values) if len(values) > 1 else math.nan
        return cls(statistics.fmean(values), deviation / math.sqrt(len(values)))


@dataclass(frozen=True)
class Summary:
    """One method at one layer, over all images.

    Attributes:
        method: of the explanations.
        layer: of the explanations.
        images: their number.
        estimates: by the names of the fields of `Scores`.
    """

    method: str
    layer: str
    images: int
    estimates: dict[str, Estimate]


MEASURES = tuple(field.name for field in fields(Scores))


def summarize(measured: Sequence[MeasuredMap]) -> list[Summary]:
    """Return a summary for each method at each layer, layer by layer."""
    groups: dict[tuple[str, str], list[Scores]] = {}
    for entry in measured:
        groups.setdefault((entry.layer, entry.method), []).append(entry.scores)
    return [
        Summary(
            method,
            layer,
            len(scores),
            {name: Estimate.of([getattr(score, name) for score in scores]) for name in MEASURES},
        )
        for (layer, method), scores in groups.items()
    ]


def best(summaries: Sequence[Summary], name: str) -> float:
    """Return the best mean of a measure."""
    means = [summary.estimates[name].mean for summary in summaries]
    return max(means) if HIGHER_IS_BETTER[name] else min(means)
