"""A network in two parts: trunk and head."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from gradcam.network.layout import Layout

Trunk = Callable[[Tensor], tuple[Tensor, ...]]
"""Takes images (B, 3, H, W) to the values at the cut, the activations first."""


class SplitError(ValueError):
    """A network that cannot be cut at this layer; the message names the layer and the reason."""


@dataclass(frozen=True)
class CutActivations:
    """The values at the cut, of a batch of B images."""

    activations: Tensor
    """The target layer's output, (B, …), in the layer's own layout."""
    others: tuple[Tensor, ...]
    """What else the head needs, a tensor (B, …) each."""

    def float(self) -> CutActivations:
        """Returns the values in float32, whatever the trunk ran in."""
        return CutActivations(self.activations.float(), tuple(_float(other) for other in self.others))

    def rows(self, indices: Tensor) -> CutActivations:
        """Returns a copy of the rows `indices` (N,), which autograd may enter where it may not enter these."""
        return CutActivations(
            self.activations.index_select(0, indices),  # (B, …) → (N, …)
            tuple(other.index_select(0, indices) for other in self.others),
        )


@dataclass(frozen=True)
class Split:
    """A network in two parts that together compute exactly what it computes; `split` makes it."""

    layer: str
    trunk: Trunk
    head: nn.Module
    method: Literal["fx", "hook"]
    layout: Layout
    """Of the layer's output."""
    replay_bytes: int
    """Memory that the replay of one (image, class) pair with gradients takes, as measured."""
    engine: str = "eager"
    """What runs the trunk."""

    def features(self, images: Tensor) -> CutActivations:
        """Runs the trunk on images (B, 3, H, W)."""
        activations, *others = self.trunk(images)
        return CutActivations(activations, tuple(others))

    def logits(self, features: CutActivations) -> Tensor:
        """Runs the head; returns (B, K)."""
        # Cloned, because the head may work in place: on a leaf it must not, and the activations are still needed.
        logits: Tensor = self.head(features.activations.clone(), *(other.clone() for other in features.others))
        return logits

    def activations(self, features: CutActivations) -> Tensor:
        """Returns the activations of N rows as (N, C, h, w)."""
        return self.layout.to_grid(features.activations)

    def gradients(self, features: CutActivations, score: Callable[[Tensor], Tensor]) -> Tensor:
        """Returns the gradient of each row's score with respect to that row's activations.

        Rows do not mix in a network in eval mode, so the gradient of the sum of the N scores holds them all
        (Selvaraju et al. 2017, the derivative in eq. 1). Gradients must be enabled.

        Args:
            features: N rows that are not inference tensors, as `CutActivations.rows` returns them.
            score: takes the logits (N, K) to the scores (N,).

        Returns:
            (N, C, h, w).
        """
        leaf = features.activations.detach().requires_grad_()
        logits = self.logits(CutActivations(leaf, features.others))  # (N, K)
        (gradients,) = torch.autograd.grad(score(logits).sum(), leaf)
        return self.layout.to_grid(gradients)


def _float(value: Tensor) -> Tensor:
    return value.float() if value.is_floating_point() else value
