"""Maps for (image, class) pairs of a batch, whatever their methods.

All pairs with a gradient method go through the head together, in chunks that fit the memory budget. Ablation-CAM
replays the head without gradients; only Score-CAM needs the whole network again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from gradcam.explain import cam
from gradcam.explain.cam import GRADIENT_METHODS
from gradcam.split.parts import CutActivations, Split

logger = logging.getLogger(__name__)

# Masked images of one forward pass of Score-CAM: more only fill the caches.
SCORECAM_BATCH_SIZE = 32


@dataclass(frozen=True)
class Pair:
    """An image of the batch, a class, and how to explain the one for the other."""

    row: int
    target: int
    method: str


@dataclass(frozen=True)
class ForwardPass:
    """A batch of B images on its way through the network, cut at one layer."""

    split: Split
    images: Tensor
    """Normalised, (B, 3, H, W)."""
    features: CutActivations
    """float32, whatever the trunk ran in."""
    logits: Tensor
    """(B, K)."""


class Explainer:
    """Explains passes within a budget of memory."""

    def __init__(self, max_replay_bytes: int) -> None:
        """Keeps what the replays of one chunk may take; one pair is always replayed."""
        self.max_replay_bytes = max_replay_bytes

    def maps(self, forward: ForwardPass, pairs: Sequence[Pair], deadline: float) -> tuple[Tensor, list[int]]:
        """Makes the normalised maps of N pairs. Gradients must be enabled.

        Args:
            forward: the batch that the pairs' rows belong to.
            pairs: N pairs, of any methods; the first are explained first.
            deadline: when to stop, on the clock `time.monotonic`. What one chunk does is done in any case.

        Returns:
            The maps (N, h, w) on the CPU, and the indices of the pairs that time ran out for.
        """
        maps = torch.zeros(len(pairs), forward.split.layout.height, forward.split.layout.width)
        late: list[int] = []
        by_gradients = [i for i, pair in enumerate(pairs) if pair.method in GRADIENT_METHODS]
        for number, indices in enumerate(_chunks(by_gradients, self._chunk_size(forward.split))):
            if number and time.monotonic() > deadline:
                late += indices
            else:
                maps[indices] = cam.normalize(_by_gradients(forward, [pairs[i] for i in indices])).cpu()
        for method, explain in (("ablationcam", self._by_ablation), ("scorecam", self._by_masking)):
            for indices in _of_one_row(pairs, method):
                try:
                    maps[indices] = cam.normalize(explain(forward, [pairs[i] for i in indices], deadline)).cpu()
                except _Late:
                    late += indices
        return maps, late

    def _chunk_size(self, split: Split) -> int:
        return max(1, self.max_replay_bytes // split.replay_bytes)

    def _by_ablation(self, forward: ForwardPass, pairs: Sequence[Pair], deadline: float) -> Tensor:
        """Returns the Ablation-CAM maps of one image's pairs: a replay of the head for each channel."""
        row, classes = _row_and_classes(forward, pairs)
        channels = forward.split.activations(forward.features).shape[1]
        ablated = []
        for chunk in _chunks(range(channels), self._chunk_size(forward.split)):
            _check(deadline)
            with torch.no_grad():
                ablated.append(forward.split.logits(_without(forward, row, chunk))[:, classes])
        activations = _activations(forward, row.expand(len(pairs)))
        return cam.ablationcam(activations, forward.logits[row[0], classes], torch.cat(ablated).T)  # (C, N) → (N, C)

    def _by_masking(self, forward: ForwardPass, pairs: Sequence[Pair], deadline: float) -> Tensor:
        """Returns the Score-CAM maps of one image's pairs: a forward pass for each channel."""
        row, classes = _row_and_classes(forward, pairs)
        activations = _activations(forward, row)  # (1, C, h, w)
        masked = []
        chunks = list(_chunks(range(activations.shape[1]), SCORECAM_BATCH_SIZE))
        for number, chunk in enumerate(chunks):
            _check(deadline)
            with torch.no_grad():
                images = forward.images[row] * _masks(activations[:, chunk], forward.images.shape[2:])  # (n, 3, H, W)
                masked.append(forward.split.logits(forward.split.features(images).float())[:, classes])
            logger.info("scorecam: %d of %d chunks", number + 1, len(chunks))
        return cam.scorecam(activations.expand(len(pairs), -1, -1, -1), torch.cat(masked).T)


class _Late(Exception):
    """There is no time left."""


def _check(deadline: float) -> None:
    if time.monotonic() > deadline:
        raise _Late


def _by_gradients(forward: ForwardPass, pairs: Sequence[Pair]) -> Tensor:
    """Returns the maps of pairs with gradient methods, from one replay of the head and one gradient."""
    device = forward.logits.device
    classes = torch.tensor([pair.target for pair in pairs], device=device)  # (N,)
    features = forward.features.rows(torch.tensor([pair.row for pair in pairs], device=device))
    groups = {
        name: torch.tensor([i for i, pair in enumerate(pairs) if pair.method == name], device=device)
        for name in dict.fromkeys(pair.method for pair in pairs)
    }

    def score(logits: Tensor) -> Tensor:
        return torch.cat([GRADIENT_METHODS[name].score(logits[at], classes[at]) for name, at in groups.items()])

    gradients = forward.split.gradients(features, score)  # (N, C, h, w)
    activations = forward.split.activations(features)  # (N, C, h, w)
    maps = torch.empty(len(pairs), *activations.shape[2:], device=device)
    for name, at in groups.items():
        maps[at] = GRADIENT_METHODS[name].maps(activations[at], gradients[at])
    return maps


def _without(forward: ForwardPass, row: Tensor, channels: Sequence[int]) -> CutActivations:
    """Returns copies of one row's features, (n, …), the i-th without channel `channels[i]`."""
    features = forward.features.rows(row.expand(len(channels)))
    by_channel = features.activations.movedim(forward.split.layout.channel_dim, 1)  # a view, (n, C, …)
    by_channel[torch.arange(len(channels)), torch.tensor(channels)] = 0
    return features


def _masks(activations: Tensor, size: Sequence[int]) -> Tensor:
    """Returns each channel of (1, C, h, w) resized to the images' size and stretched to [0, 1], (C, 1, H, W)."""
    resized = functional.interpolate(activations, tuple(size), mode="bilinear")  # (1, C, H, W)
    low, high = resized.amin(dim=(2, 3), keepdim=True), resized.amax(dim=(2, 3), keepdim=True)
    return ((resized - low) / (high - low).clamp_min(cam.SMALLEST)).transpose(0, 1)  # → (C, 1, H, W)


def _row_and_classes(forward: ForwardPass, pairs: Sequence[Pair]) -> tuple[Tensor, Tensor]:
    """Returns the row (1,) of pairs of one image, and their classes (N,)."""
    device = forward.logits.device
    return torch.tensor([pairs[0].row], device=device), torch.tensor([pair.target for pair in pairs], device=device)


def _activations(forward: ForwardPass, rows: Tensor) -> Tensor:
    return forward.split.activations(forward.features.rows(rows))


def _of_one_row(pairs: Sequence[Pair], method: str) -> Iterator[list[int]]:
    """Yields the indices of the method's pairs, an image at a time: its classes share the replays."""
    rows = dict.fromkeys(pair.row for pair in pairs if pair.method == method)
    for row in rows:
        yield [i for i, pair in enumerate(pairs) if (pair.row, pair.method) == (row, method)]


def _chunks(indices: Sequence[int], size: int) -> Iterator[list[int]]:
    for start in range(0, len(indices), size):
        yield list(indices[start : start + size])
