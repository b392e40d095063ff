"""Maps that do not depend on the network; they give the measures a scale."""

from __future__ import annotations

import torch
from torch import Tensor

from gradcam.explain import cam

BASELINES = ("random", "center")
# Standard deviation of the Gaussian, where 1 is the image's side.
CENTER_SIGMA = 0.25


def baseline(name: str, grid: tuple[int, int], seed: int) -> Tensor:
    """Return one of the `BASELINES` as a map (h, w)."""
    return uniform_noise(seed, grid) if name == "random" else center(grid)


def uniform_noise(seed: int, grid: tuple[int, int]) -> Tensor:
    """Return a random map (h, w), uniform in [0, 1)."""
    return torch.rand(grid, generator=torch.Generator().manual_seed(seed))


def center(grid: tuple[int, int]) -> Tensor:
    """Return a map (h, w) with a Gaussian in the center of the image."""
    rows, columns = ((torch.arange(length) + 0.5) / length - 0.5 for length in grid)
    return cam.normalize(torch.exp(-(rows[:, None] ** 2 + columns**2) / (2 * CENTER_SIGMA**2))[None]).heatmaps[0]
