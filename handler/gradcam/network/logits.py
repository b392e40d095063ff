"""The network's output as logits (B, K), and logits as probabilities."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from gradcam.settings import Activation, ClassScores


def return_logits(network: nn.Module, name: str, class_scores: ClassScores) -> nn.Module:
    """Make a network return nothing but logits (B, K), one for each class.

    The names of its modules and weights stay the same: only the class of the network itself changes, to a subclass
    whose `forward` reads the output. Both split methods see that `forward`, so what it does belongs to the head.

    Args:
        network: is modified.
        name: key or index of the output that holds the logits; empty if the network returns them alone.
        class_scores: `single_logit` turns one logit z, (B, 1) or (B,), into those of two classes, (-z/2, z/2). Their
            softmax is (1 - sigmoid(z), sigmoid(z)).

    Returns:
        The same network.
    """
    original = type(network)
    if not name and class_scores == "logits":
        return network

    @functools.wraps(original.forward)
    def forward(self: nn.Module, *images: Any, **others: Any) -> Tensor:
        output = select(original.forward(self, *images, **others), name)
        return two_classes(output) if class_scores == "single_logit" else output

    network.__class__ = type(original.__name__, (original,), {"forward": forward})
    return network


def select(output: Any, name: str) -> Any:
    """Return the part of a network's output that a key or an index names; everything for an empty name."""
    if not name:
        return output
    if isinstance(output, Mapping):
        return next(value for key, value in output.items() if str(key) == name)
    return output[int(name) if name.isdecimal() else name]


def two_classes(logit: Tensor) -> Tensor:
    """Return logits (B, 2) of the negative and the positive class, from the only logit z, (B, 1) or (B,)."""
    half = logit.reshape(-1, 1) / 2  # (B, 1)
    return torch.cat((-half, half), dim=1)  # (B, 2)


def probabilities(logits: Tensor, activation: Activation) -> Tensor:
    """Return the probability of each class, from logits (…, K)."""
    return logits.sigmoid() if activation == "sigmoid" else logits.softmax(dim=-1)
