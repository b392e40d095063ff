"""Time runs in interleaved rounds, and compare them within each round."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

SEED = 0

Run = Callable[[], object]


def interleaved(runs: Mapping[str, Run], rounds: int, synchronize: Run) -> dict[str, list[float]]:
    """Time each run once per round, in an order that changes; return the seconds of each, by round."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    shuffled = random.Random(SEED)
    for _ in range(rounds):
        for name in shuffled.sample(list(runs), len(runs)):
            start = time.perf_counter()
            runs[name]()
            synchronize()
            seconds[name].append(time.perf_counter() - start)
    return seconds


@dataclass(frozen=True)
class Ratio:
    """The duration of one run divided by another's, over the rounds.

    Attributes:
        median: over the rounds.
        lower: first quartile.
        upper: third quartile.
        fastest: the fastest round of one divided by the fastest of the other, as on an idle machine.
    """

    median: float
    lower: float
    upper: float
    fastest: float


def compare(seconds: Sequence[float], reference: Sequence[float]) -> Ratio:
    """Return the ratio of two runs from their seconds in the same rounds."""
    ratios = [numerator / denominator for numerator, denominator in zip(seconds, reference, strict=True)]
    lower, median, upper = map(float, np.percentile(ratios, (25, 50, 75)))
    return Ratio(median, lower, upper, min(seconds) / min(reference))
