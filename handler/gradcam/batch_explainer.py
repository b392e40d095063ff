"""The maps of a batch: cheap requests first, then expensive ones, if this worker has the turn and time is left."""

from __future__ import annotations

import time
from collections.abc import Sequence

from torch import Tensor

from gradcam.batch import Batch, CompletedPass, Explained, Forward, Item
from gradcam.errors import RequestError, TooExpensive
from gradcam.explain.cam import Maps
from gradcam.explain.explainer import Explainer, Pair
from gradcam.forward_passes import explanation_order, fuse
from gradcam.selection import Selection
from gradcam.settings import Settings
from gradcam.turn import Turn

BUSY = (
    "Another worker runs scorecam or ablationcam, and only one of a model's workers may at a time; "
    "send the request again later, or use a cheaper method such as gradcam"
)

Groups = Sequence[tuple[CompletedPass, list[int]]]
"""Forward passes, each with the rows to explain from it."""


class BatchExplainer:
    """Explains batches within the limits of time."""

    def __init__(self, explainer: Explainer, selection: Selection, settings: Settings) -> None:
        """Explain with the model's limits; `turn` may be replaced by one that several workers share."""
        self.explainer = explainer
        self.selection = selection
        self.settings = settings
        self.turn = Turn()

    def explain(self, forward: Forward) -> Explained:
        """Compute the maps; gradients must be enabled."""
        items = forward.batch.answerable
        selected = [self._selected(item, forward.logits.get(row)) for row, item in enumerate(items)]
        targets = [[] if isinstance(entry, RequestError) else entry for entry in selected]
        groups = list(explanation_order(forward.passes, items))
        expensive = [(completed, rows) for completed, rows in groups if items[rows[0]].is_expensive]
        maps, timed_out = self._maps(groups[: len(groups) - len(expensive)], items, targets, forward.batch.deadline)
        timed_out |= set(range(len(items))) - forward.logits.keys()
        errors: dict[int, RequestError] = {row: self._too_expensive(items[row]) for row in timed_out}
        if expensive:
            expensive_maps, expensive_errors = self._expensive_maps(expensive, forward.batch, targets)
            maps, errors = maps | expensive_maps, expensive_errors | errors
        errors |= {row: entry for row, entry in enumerate(selected) if isinstance(entry, RequestError)}
        return Explained(
            forward, targets, [errors[row] if row in errors else fuse(maps[row]) for row in range(len(items))]
        )

    def _selected(self, item: Item, logits: Tensor | None) -> list[int] | RequestError:
        """Return the classes to explain; none for an item that timed out before it had logits."""
        try:
            return [] if logits is None else self.selection.targets(item, logits)
        except RequestError as error:
            return error

    def _maps(
        self,
        groups: Groups,
        items: Sequence[Item],
        targets: list[list[int]],
        deadline: float,
    ) -> tuple[dict[int, list[Maps]], set[int]]:
        """Return by row the maps of each pass, and the rows that timed out."""
        maps_of_passes: dict[int, list[Maps]] = {}
        timed_out: set[int] = set()
        for completed, rows in groups:
            counts = [len(targets[row]) for row in rows]
            pairs = [
                Pair(completed.rows.index(row), target, items[row].method, items[row].versus)
                for row in rows
                for target in targets[row]
            ]
            maps, unfinished = self.explainer.maps(completed.forward, pairs, deadline)
            owners = [row for row, count in zip(rows, counts, strict=True) for _ in range(count)]
            timed_out |= {owners[index] for index in unfinished}
            upright = maps._replace(heatmaps=completed.augmentation.undo(maps.heatmaps))
            for row, part in zip(rows, upright.split(counts), strict=True):
                maps_of_passes.setdefault(row, []).append(part)
        return maps_of_passes, timed_out

    def _expensive_maps(
        self, groups: Groups, batch: Batch, targets: list[list[int]]
    ) -> tuple[dict[int, list[Maps]], dict[int, RequestError]]:
        """Return the maps of expensive rows, and the errors of those that have no turn or no time left."""
        items, deadline, limit = batch.answerable, batch.deadline, None
        shared_deadline = time.monotonic() + self.settings.max_delay_seconds
        if shared_deadline < deadline and not all(item.is_expensive for item in items):
            limit, deadline = self.settings.max_delay_seconds, shared_deadline
        with self.turn.take() as granted:
            if not granted:
                return {}, {row: TooExpensive(BUSY) for _, rows in groups for row in rows}
            maps, timed_out = self._maps(groups, items, targets, deadline)
        return maps, {row: self._too_expensive(items[row], limit) for row in timed_out}

    def _too_expensive(self, item: Item, shared_limit: float | None = None) -> TooExpensive:
        if shared_limit is not None:
            return TooExpensive(
                f"Time limit of {shared_limit:g} s exceeded by {item.method} at {', '.join(item.layers)}, because the "
                f"request shared its batch with others ('max_delay_seconds'); send it again when the server is idle"
            )
        return TooExpensive(
            f"Time limit of {self.settings.max_batch_seconds:g} s per batch exceeded by {item.method} at "
            f"{', '.join(item.layers)}; request fewer classes, a later layer, or a cheaper method such as gradcam"
        )
