"""Activations and gradients to class activation maps.

A are the activations and G the gradients of the class score with respect to them, (N, C, h, w) both.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

Method = Callable[[Tensor, Tensor], Tensor]


def gradcam(activations: Tensor, gradients: Tensor) -> Tensor:
    """Grad-CAM: Σ_c mean(G_c) · A_c.

    Selvaraju et al. 2017, arXiv 1610.02391, eq. 1 and 2 (before the ReLU).

    Returns:
        (N, h, w).
    """
    weights = gradients.mean(dim=(2, 3), keepdim=True)  # (N, C, 1, 1)
    return (weights * activations).sum(dim=1)  # (N, h, w)


METHODS: dict[str, Method] = {"gradcam": gradcam}


def normalize(maps: Tensor) -> Tensor:
    """ReLU, then each map over its own maximum; a map with nothing above 0 stays all 0.

    Args:
        maps: (N, h, w).

    Returns:
        (N, h, w) in [0, 1].
    """
    positive = maps.relu()
    maximum = positive.amax(dim=(1, 2), keepdim=True)  # (N, 1, 1)
    return positive / maximum.where(maximum > 0, 1)
