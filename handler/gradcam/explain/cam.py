"""Formulas of the methods: activations and gradients to class activation maps, one small function each.

A are the activations of the target layer and G the gradients of a class's score with respect to them, both
(N, C, h, w); Σ_c sums over channels, Σ over positions. Every function returns maps (N, h, w) before the ReLU;
`normalize` applies the ReLU and scales them to [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

# Finer-CAM contrasts a class with this many similar ones.
SIMILAR_CLASSES = 3
# Lower bound of denominators.
SMALLEST = 1e-9


class Maps(NamedTuple):
    """The maps of N (image, class) pairs, each divided by its maximum, and these maxima."""

    heatmaps: Tensor
    """(N, h, w) in [0, 1]; the maximum of each is 1, or 0 if the map has no positive value."""
    strengths: Tensor
    """(N,): the maximum of each map after ReLU and before the division; `heatmaps` × `strengths` are the raw maps."""

    def split(self, counts: Sequence[int]) -> list[Maps]:
        """Return the maps in consecutive groups of these sizes."""
        groups = (part.split_with_sizes(list(counts)) for part in self)
        return [Maps(heatmaps, strengths) for heatmaps, strengths in zip(*groups, strict=True)]


# ----------------------------------------------------------------------------- maps


def gradcam(activations: Tensor, gradients: Tensor) -> Tensor:
    """Grad-CAM: Σ_c mean(G)·A.

    Selvaraju et al. 2017, arXiv 1610.02391, eq. 1 and 2.
    """
    return _weighted_sum(activations, gradients.mean(dim=(2, 3)))  # weights (N, C)


def gradcam_plus_plus(activations: Tensor, gradients: Tensor) -> Tensor:
    """Grad-CAM++: Σ_c w·A with w = Σ a·relu(G), a = G² / (2G² + ΣA·G³), 0 where G is 0.

    Chattopadhay et al. 2018, arXiv 1710.11063, eq. 7 and 19. The fraction a is reduced by G², which avoids a division
    by zero without a small constant, so small gradients keep their weight.
    """
    denominator = 2 + activations.sum(dim=(2, 3), keepdim=True) * gradients  # (N, C, h, w)
    weights = _ratio(gradients.relu(), denominator).sum(dim=(2, 3))  # (N, C, h, w) → (N, C)
    return _weighted_sum(activations, weights)


def xgradcam(activations: Tensor, gradients: Tensor) -> Tensor:
    """XGrad-CAM: Σ_c w·A with w = Σ(G·A) / ΣA.

    Fu et al. 2020, arXiv 2008.02312.
    """
    weights = _ratio((gradients * activations).sum(dim=(2, 3)), activations.sum(dim=(2, 3)))  # (N, C)
    return _weighted_sum(activations, weights)


def hirescam(activations: Tensor, gradients: Tensor) -> Tensor:
    """HiResCAM: Σ_c G·A.

    Draelos and Carin 2020, arXiv 2011.08891.
    """
    return (gradients * activations).sum(dim=1)  # (N, C, h, w) → (N, h, w)


def layercam(activations: Tensor, gradients: Tensor) -> Tensor:
    """LayerCAM: Σ_c relu(G)·A.

    Jiang et al. 2021, IEEE Transactions on Image Processing 30.
    """
    return (gradients.relu() * activations).sum(dim=1)  # (N, C, h, w) → (N, h, w)


def eigencam(activations: Tensor, gradients: Tensor) -> Tensor:
    """Eigen-CAM: the projection of A on its first principal component; the same for every class.

    Muhammad and Yeasin 2020, arXiv 2008.00299.
    """
    return _first_component(activations)


def eigengradcam(activations: Tensor, gradients: Tensor) -> Tensor:
    """EigenGrad-CAM: the projection of G·A on its first principal component.

    A class-specific Eigen-CAM, introduced by the package pytorch-grad-cam.
    """
    return _first_component(gradients * activations)


def counterfactual(activations: Tensor, gradients: Tensor) -> Tensor:
    """Counterfactual: Grad-CAM with -G, the evidence against the class.

    Selvaraju et al. 2017, arXiv 1610.02391, section on counterfactual explanations.
    """
    return gradcam(activations, -gradients)


def ablationcam(activations: Tensor, scores: Tensor, ablated: Tensor) -> Tensor:
    """Ablation-CAM: Σ_c w·A with w = (s - s_c) / s.

    Desai and Ramaswamy 2020, WACV.

    Args:
        activations: (N, C, h, w).
        scores: score s of each row's class, (N,).
        ablated: the same with channel c set to 0, s_c, (N, C).
    """
    return _weighted_sum(activations, _ratio(scores[:, None] - ablated, scores[:, None]))


def scorecam(activations: Tensor, masked: Tensor) -> Tensor:
    """Score-CAM: Σ_c w·A, where w is the softmax of `masked` over channels.

    Wang et al. 2020, arXiv 1910.01279; the score of the baseline image cancels in the softmax.

    Args:
        activations: (N, C, h, w).
        masked: score of each row's class on the image masked by channel c, (N, C).
    """
    return _weighted_sum(activations, masked.softmax(dim=1))


def _weighted_sum(activations: Tensor, weights: Tensor) -> Tensor:
    """Return Σ_c w·A, (N, h, w), for weights (N, C)."""
    return torch.einsum("nc,nchw->nhw", weights, activations)


def _ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Return numerator / denominator, and 0 where the denominator is 0."""
    zero = denominator == 0
    return (numerator / denominator.masked_fill(zero, 1)).masked_fill(zero, 0)


def _first_component(values: Tensor) -> Tensor:
    """Return the projection (N, h, w) of the positions of (N, C, h, w) on their first principal component.

    The sign of a principal component is arbitrary; here the position of largest magnitude is positive.
    """
    positions = values.flatten(2).transpose(1, 2)  # (N, C, h, w) → (N, h·w, C)
    centered = positions - positions.mean(dim=1, keepdim=True)
    left, singular, _ = torch.linalg.svd(centered, full_matrices=False)  # (N, h·w, r), (N, r)
    projection: Tensor = left[:, :, 0] * singular[:, :1]  # (N, h·w)
    extreme = projection.gather(1, projection.abs().argmax(dim=1, keepdim=True))  # (N, 1)
    return (projection * extreme.sign()).reshape(len(values), *values.shape[2:])  # (N, h, w)


# ----------------------------------------------------------------------------- scores


def class_score(logits: Tensor, classes: Tensor) -> Tensor:
    """Return each row's logit of its class, (N,), from logits (N, K) and classes (N,)."""
    return logits.gather(1, classes[:, None])[:, 0]  # (N, 1) → (N,)


def contrast_score(logits: Tensor, classes: Tensor) -> Tensor:
    """Return z_n - Σ p_k·z_k / Σ p_k, (N,): the class's logit minus the mean logit of the most similar classes.

    Zhang et al. 2025, Finer-CAM, arXiv 2501.11309, with a contrast weight of 1. The similar classes k are those
    `SIMILAR_CLASSES` whose logits are closest to the class's own, weighted by their probabilities.
    """
    own = class_score(logits, classes)  # (N,)
    distance = (logits - own[:, None]).abs().scatter(1, classes[:, None], torch.inf)  # (N, K)
    count = min(SIMILAR_CLASSES, logits.shape[1] - 1)
    similar = distance.topk(count, dim=1, largest=False).indices  # (N, count)
    weights = logits.softmax(dim=1).gather(1, similar)  # (N, count)
    mean = (weights * logits.gather(1, similar)).sum(dim=1) / weights.sum(dim=1).clamp_min(SMALLEST)  # (N,)
    return own - mean


# ----------------------------------------------------------------------------- methods


@dataclass(frozen=True)
class GradientMethod:
    """A method that needs only the activations and the gradients of a score with respect to them."""

    maps: Callable[[Tensor, Tensor], Tensor]
    """Maps activations and gradients, both (N, C, h, w), to maps (N, h, w)."""
    score: Callable[[Tensor, Tensor], Tensor] = class_score
    """Maps logits (N, K) and classes (N,) to scores (N,)."""


GRADIENT_METHODS: dict[str, GradientMethod] = {
    "gradcam": GradientMethod(gradcam),
    "gradcam++": GradientMethod(gradcam_plus_plus),
    "xgradcam": GradientMethod(xgradcam),
    "hirescam": GradientMethod(hirescam),
    "layercam": GradientMethod(layercam),
    "eigencam": GradientMethod(eigencam),
    "eigengradcam": GradientMethod(eigengradcam),
    "finercam": GradientMethod(gradcam, contrast_score),
    "counterfactual": GradientMethod(counterfactual),
}

# Methods of a class's own logit, whose score may become the difference of two logits.
CONTRASTING_METHODS = tuple(name for name, method in GRADIENT_METHODS.items() if method.score is class_score)
# Methods that run the head or the whole network for each channel of the layer.
CHANNEL_METHODS = ("ablationcam", "scorecam")
METHODS = (*GRADIENT_METHODS, *CHANNEL_METHODS)


def normalize(maps: Tensor) -> Maps:
    """Apply the ReLU to maps (N, h, w), then divide each by its maximum, the map's strength.

    A map without positive values becomes all 0, with strength 0.
    """
    positive = maps.relu()
    strengths = positive.amax(dim=(1, 2))  # (N, h, w) → (N,)
    return Maps(_ratio(positive, strengths[:, None, None]), strengths)


def fuse(maps: list[Maps]) -> Maps:
    """Return the normalized mean of several maps of the same pairs, such as those of several layers.

    Strengths of different layers have no common scale, so each part has the same weight, and the fused strength is the
    mean of the parts' strengths, not the maximum of a map.

    Args:
        maps: N maps each; resized bilinearly to the highest resolution among them.
    """
    size = max((tuple(part.heatmaps.shape[1:]) for part in maps), key=lambda shape: shape[0] * shape[1])
    resized = [
        functional.interpolate(part.heatmaps[:, None], size, mode="bilinear")[:, 0]  # (N, h, w)
        for part in maps
    ]
    mean = torch.stack(resized).mean(dim=0)  # (L, N, h, w) → (N, h, w)
    strengths = torch.stack([part.strengths for part in maps]).mean(dim=0)  # (L, N) → (N,)
    return Maps(normalize(mean).heatmaps, strengths)
