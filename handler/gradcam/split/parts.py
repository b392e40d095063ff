"""A network in two parts, trunk and head, and the values that pass between them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from gradcam.network.layout import Layout

Trunk = Callable[[Tensor], tuple[Tensor, ...]]
"""Maps images (B, 3, H, W) to the values at the split point, the activations first."""


class SplitError(ValueError):
    """A network that cannot be split or explained at a layer; the message names the layer and the reason."""


@dataclass(frozen=True)
class CutActivations:
    """Values at the split point for B images: the trunk's output and the head's input."""

    activations: Tensor
    """The target layer's output, (B, …), in the layer's own layout."""
    others: tuple[Tensor, ...]
    """Further tensors (B, …) that the head needs."""

    def float(self) -> CutActivations:
        """Return the values in float32, whatever precision the trunk ran in."""
        return CutActivations(self.activations.float(), tuple(_float(other) for other in self.others))

    def rows(self, indices: Tensor) -> CutActivations:
        """Return a copy of the rows `indices` (N,); unlike inference tensors, autograd can use it."""
        return CutActivations(
            self.activations.index_select(0, indices),  # (B, …) → (N, …)
            tuple(other.index_select(0, indices) for other in self.others),  # (B, …) → (N, …) each
        )


@dataclass(frozen=True)
class Split:
    """A network in two parts that together compute exactly what it computes; `splitter.split` returns it."""

    layer: str
    trunk: Trunk
    head: nn.Module
    method: Literal["fx", "hook"]
    layout: Layout
    """Layout of the target layer's output."""
    replay_bytes: int
    """Measured memory for replaying one (image, class) pair with gradients."""
    channels: int
    """Channels C of the target layer's output."""
    head_share: float
    """Measured time of the head, as a share of the network's, in (0, 1]."""
    engine: str = "eager"
    """The engine that runs the trunk."""
    precision: str = "float32"
    """The precision that the engine runs the trunk in, which may differ from the model's setting."""
    pixel_trunk: Trunk | None = None
    """The trunk for pixels (B, 3, H, W), uint8, if the engine normalizes them itself."""

    def features(self, images: Tensor) -> CutActivations:
        """Run the trunk on images (B, 3, H, W)."""
        activations, *others = self.trunk(images)
        return CutActivations(activations, tuple(others))

    def features_of_pixels(self, pixels: Tensor, normalize: Callable[[Tensor], Tensor]) -> CutActivations:
        """Run the trunk on pixels (B, 3, H, W), uint8, normalized by the engine or by `normalize`."""
        activations, *others = self.trunk(normalize(pixels)) if self.pixel_trunk is None else self.pixel_trunk(pixels)
        return CutActivations(activations, tuple(others))

    def logits(self, features: CutActivations) -> Tensor:
        """Run the head; return logits (B, K)."""
        # The head may work in place, which a leaf tensor forbids; and the activations are needed afterwards.
        logits: Tensor = self.head(features.activations.clone(), *(other.clone() for other in features.others))
        return logits

    def activations(self, features: CutActivations) -> Tensor:
        """Return the activations of N rows as (N, C, h, w)."""
        return self.layout.to_grid(features.activations)

    def gradients(self, features: CutActivations, score: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the gradient of each row's score with respect to that row's activations.

        In eval mode the rows of a batch do not affect one another. So the gradient of the sum of all N scores contains
        each row's own gradient (Selvaraju et al. 2017, the derivative in eq. 1). Gradients must be enabled.

        Args:
            features: N rows that are not inference tensors, as `CutActivations.rows` returns them.
            score: maps logits (N, K) to scores (N,).

        Returns:
            (N, C, h, w).
        """
        leaf = features.activations.detach().requires_grad_()
        logits = self.logits(CutActivations(leaf, features.others))  # (N, K)
        (gradients,) = torch.autograd.grad(score(logits).sum(), leaf)
        return self.layout.to_grid(gradients)


def _float(value: Tensor) -> Tensor:
    return value.float() if value.is_floating_point() else value
