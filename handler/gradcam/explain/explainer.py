"""Maps for the (image, class) pairs of a batch, for any mix of methods.

All pairs with gradient methods go through the head together, in chunks that fit the memory budget. Ablation-CAM replays
the head without gradients. Only Score-CAM needs the whole network again.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from gradcam.explain import cam
from gradcam.explain.cam import GRADIENT_METHODS, Maps
from gradcam.split.parts import CutActivations, Split

logger = logging.getLogger(__name__)

# Masked images per forward pass of Score-CAM, unless the caller says otherwise.
MAX_MASKED_IMAGES = 8


@dataclass(frozen=True)
class Pair:
    """An image of the batch, a class, and the method that explains the class on the image."""

    row: int
    target: int
    method: str
    versus: int | None = None
    """A class whose score is subtracted from the target's; methods in `cam.CONTRASTING_METHODS` only."""


@dataclass(frozen=True)
class ForwardPass:
    """A batch of B images after a forward pass through the network as split at one layer."""

    split: Split
    images: Tensor | None
    """Normalized, (B, 3, H, W); None if no request of the batch has a method that needs them."""
    features: CutActivations
    """Values at the split point, in float32 whatever precision the trunk ran in."""
    logits: Tensor
    """(B, K)."""


def channel_passes(split: Split, method: str) -> int:
    """Return how many forward passes a method adds for the channels of a layer.

    Score-CAM runs the network once for each of the C channels. Ablation-CAM replays the head C times, which counts as
    C × the head's share of the network's time.
    """
    if method == "scorecam":
        return split.channels
    return math.ceil(split.channels * split.head_share) if method == "ablationcam" else 0


class Explainer:
    """Computes maps within a memory budget."""

    def __init__(self, max_replay_bytes: int, max_masked_images: int = MAX_MASKED_IMAGES) -> None:
        """Set the limits of a chunk, which has at least one pair or image.

        Args:
            max_replay_bytes: memory that the head's replays may take.
            max_masked_images: images per forward pass of Score-CAM; larger batches than the worker runs anyway
                would raise its memory.
        """
        self.max_replay_bytes = max_replay_bytes
        self.max_masked_images = max_masked_images

    def maps(self, forward: ForwardPass, pairs: Sequence[Pair], deadline: float) -> tuple[Maps, list[int]]:
        """Compute the normalized maps of N pairs. Gradients must be enabled.

        Args:
            forward: the batch that the pairs' rows refer to.
            pairs: N pairs of any methods; gradient methods are computed first, in this order.
            deadline: when to stop, on the clock `time.monotonic`. The first chunk is computed in any case.

        Returns:
            The maps on the CPU, and the indices of the pairs that timed out.
        """
        layout, count = forward.split.layout, len(pairs)
        maps = Maps(torch.zeros(count, layout.height, layout.width), torch.zeros(count))  # (N, h, w), (N,)
        timed_out: list[int] = []
        by_gradients = [i for i, pair in enumerate(pairs) if pair.method in GRADIENT_METHODS]
        for number, indices in enumerate(_chunks(by_gradients, self._chunk_size(forward.split))):
            if number and time.monotonic() > deadline:
                timed_out += indices
            else:
                _store(maps, indices, _by_gradients(forward, [pairs[i] for i in indices]))
        for method, compute in (("ablationcam", self._by_ablation), ("scorecam", self._by_masking)):
            for indices in _by_row(pairs, method):
                try:
                    _store(maps, indices, compute(forward, [pairs[i] for i in indices], deadline))
                except _DeadlineExceeded:
                    timed_out += indices
        return maps, timed_out

    def _chunk_size(self, split: Split) -> int:
        return max(1, self.max_replay_bytes // split.replay_bytes)

    def _by_ablation(self, forward: ForwardPass, pairs: Sequence[Pair], deadline: float) -> Tensor:
        """Return the Ablation-CAM maps (N, h, w) of one image's N pairs: one replay of the head per channel."""
        row, classes = _row_and_classes(forward, pairs)
        channels = forward.split.activations(forward.features).shape[1]
        ablated = []
        for chunk in _chunks(range(channels), self._chunk_size(forward.split)):
            _check_deadline(deadline)
            with torch.no_grad():
                ablated.append(forward.split.logits(_without_channels(forward, row, chunk))[:, classes])  # (n, N)
        activations = _activations(forward, row.expand(len(pairs)))  # (N, C, h, w)
        return cam.ablationcam(activations, forward.logits[row[0], classes], torch.cat(ablated).T)  # (C, N) → (N, C)

    def _by_masking(self, forward: ForwardPass, pairs: Sequence[Pair], deadline: float) -> Tensor:
        """Return the Score-CAM maps (N, h, w) of one image's N pairs: one masked image per channel."""
        assert forward.images is not None
        row, classes = _row_and_classes(forward, pairs)
        activations = _activations(forward, row)  # (1, C, h, w)
        masked = []
        chunks = list(_chunks(range(activations.shape[1]), self.max_masked_images))
        for number, chunk in enumerate(chunks):
            _check_deadline(deadline)
            with torch.no_grad():
                images = forward.images[row] * _masks(activations[:, chunk], forward.images.shape[2:])  # (n, 3, H, W)
                masked.append(forward.split.logits(forward.split.features(images).float())[:, classes])  # (n, N)
            logger.info("scorecam: %d of %d chunks", number + 1, len(chunks))
        return cam.scorecam(activations.expand(len(pairs), -1, -1, -1), torch.cat(masked).T)  # (C, N) → (N, C)


def _store(maps: Maps, indices: list[int], raw: Tensor) -> None:
    """Normalize some pairs' raw maps (n, h, w), and write them to their places in the maps of all pairs."""
    normalized = cam.normalize(raw)
    maps.heatmaps[indices] = normalized.heatmaps.cpu()
    maps.strengths[indices] = normalized.strengths.cpu()


class _DeadlineExceeded(Exception):
    """The deadline passed before all channels were processed."""


def _check_deadline(deadline: float) -> None:
    if time.monotonic() > deadline:
        raise _DeadlineExceeded


def _by_gradients(forward: ForwardPass, pairs: Sequence[Pair]) -> Tensor:
    """Return the maps (N, h, w) of N pairs with gradient methods, from one replay and one backward pass."""
    device = forward.logits.device
    classes = torch.tensor([pair.target for pair in pairs], device=device)  # (N,)
    features = forward.features.rows(torch.tensor([pair.row for pair in pairs], device=device))
    groups = {
        name: torch.tensor([i for i, pair in enumerate(pairs) if pair.method == name], device=device)
        for name in dict.fromkeys(pair.method for pair in pairs)
    }
    others = torch.tensor([pair.versus or 0 for pair in pairs], device=device)  # (N,)
    contrasts = torch.tensor([pair.versus is not None for pair in pairs], device=device)  # (N,)

    def score(logits: Tensor) -> Tensor:
        own = torch.cat([GRADIENT_METHODS[name].score(logits[at], classes[at]) for name, at in groups.items()])
        order = torch.cat(list(groups.values()))
        if not contrasts.any():
            return own
        return own - torch.where(contrasts, cam.class_score(logits, others), 0)[order]

    gradients = forward.split.gradients(features, score)  # (N, C, h, w)
    activations = forward.split.activations(features)  # (N, C, h, w)
    maps = torch.empty(len(pairs), *activations.shape[2:], device=device)  # (N, h, w)
    for name, at in groups.items():
        maps[at] = GRADIENT_METHODS[name].maps(activations[at], gradients[at])
    return maps


def _without_channels(forward: ForwardPass, row: Tensor, channels: Sequence[int]) -> CutActivations:
    """Return n copies of one row's values at the split point, the i-th with channel `channels[i]` set to 0."""
    features = forward.features.rows(row.expand(len(channels)))
    by_channel = features.activations.movedim(forward.split.layout.channel_dim, 1)  # a view, (n, C, …)
    by_channel[torch.arange(len(channels)), torch.tensor(channels)] = 0
    return features


def _masks(activations: Tensor, size: Sequence[int]) -> Tensor:
    """Return each channel of (1, C, h, w), resized to the images' size and scaled to [0, 1], as (C, 1, H, W)."""
    resized = functional.interpolate(activations, tuple(size), mode="bilinear")  # (1, C, H, W)
    low, high = resized.amin(dim=(2, 3), keepdim=True), resized.amax(dim=(2, 3), keepdim=True)  # (1, C, 1, 1)
    return ((resized - low) / (high - low).clamp_min(cam.SMALLEST)).transpose(0, 1)  # → (C, 1, H, W)


def _row_and_classes(forward: ForwardPass, pairs: Sequence[Pair]) -> tuple[Tensor, Tensor]:
    """Return the row (1,) that N pairs of one image share, and their classes (N,)."""
    device = forward.logits.device
    return torch.tensor([pairs[0].row], device=device), torch.tensor([pair.target for pair in pairs], device=device)


def _activations(forward: ForwardPass, rows: Tensor) -> Tensor:
    return forward.split.activations(forward.features.rows(rows))


def _by_row(pairs: Sequence[Pair], method: str) -> Iterator[list[int]]:
    """Yield the indices of the method's pairs, one image at a time, because its classes share the replays."""
    rows = dict.fromkeys(pair.row for pair in pairs if pair.method == method)
    for row in rows:
        yield [i for i, pair in enumerate(pairs) if (pair.row, pair.method) == (row, method)]


def _chunks(indices: Sequence[int], size: int) -> Iterator[list[int]]:
    for start in range(0, len(indices), size):
        yield list(indices[start : start + size])
