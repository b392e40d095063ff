"""Costs of a split, measured on random images: memory per replay, and the head's share of the time."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor

from gradcam.split.parts import Split

# The fastest of several runs is the least disturbed by other processes.
TIMED_RUNS = 3


def measure_replay_bytes(parts: Split, images: Tensor) -> int:
    """Measure the memory of one pair's replay: its values at the split point, and what autograd saves."""
    parameters = {parameter.data_ptr() for parameter in parts.head.parameters()}
    saved: dict[int, int] = {}

    def record(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in parameters:
            saved[tensor.data_ptr()] = tensor.nbytes
        return tensor

    with torch.no_grad():
        features = parts.features(images)
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(record, lambda tensor: tensor):
        parts.gradients(features, lambda logits: logits[:, 0])
    at_split = features.activations.nbytes + sum(other.nbytes for other in features.others)
    return at_split + sum(saved.values())


def measure_head_share(parts: Split, images: Tensor) -> float:
    """Measure the head's share of the network's time, both without gradients; in (0, 1]."""
    with torch.no_grad():
        features = parts.features(images)
        head = _fastest(lambda: parts.logits(features))
        network = _fastest(lambda: parts.logits(parts.features(images)))
    return min(1.0, head / network)


def _fastest(run: Callable[[], Tensor]) -> float:
    """Return the seconds of the fastest of several runs."""
    durations = []
    for _ in range(TIMED_RUNS):
        start = time.perf_counter()
        run().cpu()  # waits for a GPU
        durations.append(time.perf_counter() - start)
    return min(durations)
