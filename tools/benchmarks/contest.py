"""Contests between this project and baselines that compute the same method."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gradcam.explain import cam
from gradcam.network import architecture as network
from gradcam.network.target_layer import default_layer
from tools.benchmarks import implementations
from tools.benchmarks.implementations import (
    MANY,
    OURS,
    OURS_MANY,
    PLAIN,
    PLAIN_LAYOUT,
    Explain,
    baselines,
    ours,
    plain_forward,
    plain_forward_in_our_layout,
)
from tools.benchmarks.timing import SEED, Ratio, Run, compare, interleaved

CLASSES = 1000
# Smaller batches do not keep a GPU busy.
BATCHES = {"cpu": (1, 8), "cuda": (1, 8, 32, 128, 256)}

# In other libraries, each takes hundreds of forward passes.
HEAVY = ("ablationcam", "scorecam")
HEAVY_ROUNDS = 3


@dataclass(frozen=True)
class Contest:
    """What runs in the same rounds."""

    method: str
    batch: int
    rounds: int


@dataclass(frozen=True)
class Comparison:
    """A line of the results: the duration of `measured` divided by that of `reference`."""

    method: str
    batch: int
    measured: str
    reference: str
    ratio: Ratio


def contests(rounds: int, device: str) -> list[Contest]:
    """Return Grad-CAM in every batch size, then each method that a baseline computes, too, for one image."""
    others = [method for method in cam.METHODS if method != "gradcam" and baselines(method)]
    return [Contest("gradcam", batch, rounds) for batch in BATCHES[device]] + [
        Contest(method, 1, min(rounds, HEAVY_ROUNDS) if method in HEAVY else rounds) for method in others
    ]


def comparisons(method: str, batch: int, seconds: Mapping[str, Sequence[float]]) -> list[Comparison]:
    """Return the comparisons of one contest, from the seconds of each participant."""
    pairs: list[tuple[str, str]] = []
    if PLAIN in seconds:
        pairs += [(OURS, PLAIN), (OURS, PLAIN_LAYOUT), (OURS_MANY, OURS)]
    pairs += [(name, OURS) for name in baselines(method) if name in seconds]
    return [
        Comparison(method, batch, measured, reference, compare(seconds[measured], seconds[reference]))
        for measured, reference in pairs
    ]


class Benchmark:
    """A network with seeded weights, images, and the baselines that could not run.

    Attributes:
        left_out: why a baseline was left out, by its name and method.
    """

    def __init__(self, architecture: str, device: str) -> None:
        """Build the network and the images."""
        torch.manual_seed(SEED)
        # Other libraries need parameters with gradients, as in a network that is loaded in the usual way.
        self.model = network.build(architecture, CLASSES).requires_grad_(True).to(device)
        self.layer = default_layer(network.build(architecture, CLASSES), implementations.INPUT_SIZE)
        self.device = device
        self.images = torch.randn(max(BATCHES[device]), 3, *implementations.INPUT_SIZE, device=device)
        self.synchronize: Run = torch.cuda.synchronize if device == "cuda" else lambda: None
        self.left_out: dict[str, str] = {}

    def run(self, contest: Contest) -> dict[str, list[float]]:
        """Return the seconds of each participant by round; a baseline that fails is left out."""
        images = self.images[: contest.batch]
        runs = {name: lambda explain=explain: explain(images) for name, explain in self._warmed_up(contest, images)}
        return interleaved(runs, contest.rounds, self.synchronize)

    def _warmed_up(self, contest: Contest, images: Tensor) -> Iterator[tuple[str, Explain]]:
        """Yield the participants after one run each."""
        required: dict[str, Callable[[], Explain]] = {}
        if contest.method == "gradcam":
            required[PLAIN] = lambda: plain_forward(self.copied())
            required[PLAIN_LAYOUT] = lambda: plain_forward_in_our_layout(self.copied())
            required[OURS_MANY] = lambda: ours(self.frozen(), self.layer, contest.method, MANY)
        required[OURS] = lambda: ours(self.frozen(), self.layer, contest.method)
        for name, build in required.items():
            explain = build()
            explain(images)
            yield name, explain
        for name, make in baselines(contest.method).items():
            try:
                explain = make(self.copied(), self.layer, contest.method)
                explain(images)
            except (ImportError, RuntimeError, ValueError, TypeError) as error:
                self.left_out[f"{name}, {contest.method}"] = str(error).partition("\n")[0]
            else:
                yield name, explain

    def copied(self) -> nn.Module:
        """Return a copy of the network: hooks stay, splitting changes in-place operations, Ablation-CAM a layer."""
        return copy.deepcopy(self.model)

    def frozen(self) -> nn.Module:
        """Return a copy of the network whose parameters take no gradients."""
        return self.copied().requires_grad_(False)
