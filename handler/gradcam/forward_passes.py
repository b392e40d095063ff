"""Scheduling: which items share a forward pass or a replay of the head, and in which order.

Most batches need one forward pass. Items that request another layer need a pass through the network that is split
there; an item that requests several layers, or smoothing, needs several passes. Cheap items come first, so that an
expensive one costs its neighbors only time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from gradcam.batch import Augmentation, CompletedPass, Item
from gradcam.explain import cam
from gradcam.explain.cam import Maps


@dataclass(frozen=True)
class ScheduledPass:
    """A forward pass to run."""

    layer: str
    augmentation: Augmentation
    rows: list[int]
    """Indices of its items."""


def schedule(items: list[Item], max_size: int) -> list[ScheduledPass]:
    """Return the forward passes of the items, each of at most `max_size` rows, the cheapest first."""
    groups: dict[tuple[str, Augmentation], list[int]] = {}
    for row in _cheapest_first(range(len(items)), items):
        for layer in items[row].layers:
            for augmentation in items[row].augmentations:
                groups.setdefault((layer, augmentation), []).append(row)
    passes = [
        ScheduledPass(layer, augmentation, sorted(rows[start : start + max_size]))
        for (layer, augmentation), rows in groups.items()
        for start in range(0, len(rows), max_size)
    ]
    return sorted(passes, key=lambda scheduled: min(items[row].cost for row in scheduled.rows))


def unchanged_logits(passes: list[CompletedPass]) -> dict[int, Tensor]:
    """Return each item's logits (K,) for its unchanged input, on the CPU, by row."""
    logits: dict[int, Tensor] = {}
    for completed in passes:
        if completed.augmentation == Augmentation():
            logits |= dict(zip(completed.rows, completed.forward.logits.cpu(), strict=True))
    return logits


def explanation_order(passes: list[CompletedPass], items: list[Item]) -> Iterator[tuple[CompletedPass, list[int]]]:
    """Yield each pass with the rows to explain together; expensive rows are apart from others, and after them."""
    for expensive in (False, True):
        for completed in passes:
            rows = [row for row in completed.rows if items[row].is_expensive == expensive]
            if rows:
                yield completed, _cheapest_first(rows, items)


def fuse(maps: list[Maps]) -> Maps:
    """Return the mean of one item's n maps of several passes."""
    return maps[0] if len(maps) == 1 or not len(maps[0].heatmaps) else cam.fuse(maps)


def select_rows(values: Tensor, rows: list[int]) -> Tensor:
    """Return some rows, without a copy if all rows are selected."""
    return values if len(rows) == len(values) else values[rows]


def _cheapest_first(rows: Sequence[int], items: list[Item]) -> list[int]:
    return sorted(rows, key=lambda row: items[row].cost)
