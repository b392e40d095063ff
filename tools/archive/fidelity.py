"""How closely a faster trunk follows the float32 network: classes and maps on images that it was not calibrated on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from gradcam.explain import cam
from gradcam.split.parts import CutActivations, Split

BATCH = 8


@dataclass(frozen=True)
class Fidelity:
    """Agreement of a trunk with the float32 trunk."""

    agreement: float
    """Share of the images with the same top class, in [0, 1]."""
    cosine_median: float
    """Median over the images of the cosine of two Grad-CAM maps, both of the class that float32 ranks first."""
    cosine_5_percent: float
    """5th percentile of these cosines."""
    cosine_worst: float
    """Minimum of these cosines."""

    def meets(self, min_agreement: float, min_cosine: float) -> bool:
        """Return whether the agreement and the 5th percentile of the cosines reach the thresholds."""
        return self.agreement >= min_agreement and self.cosine_5_percent >= min_cosine


def compare(parts: Split, reference: Split, images: Tensor) -> Fidelity:
    """Compare a split that has another trunk with the reference, on normalized images (N, 3, H, W)."""
    same_class: list[Tensor] = []
    cosines: list[Tensor] = []
    for start in range(0, len(images), BATCH):
        batch = images[start : start + BATCH]
        expected, ours = _features(reference, batch), _features(parts, batch)
        with torch.no_grad():
            classes = reference.logits(expected).argmax(dim=1)  # (B,)
            same_class.append(parts.logits(ours).argmax(dim=1) == classes)
        cosines.append(_cosines(_maps(parts, ours, classes), _maps(reference, expected, classes)))
    cosine = torch.cat(cosines)  # (N,)
    return Fidelity(
        agreement=float(torch.cat(same_class).double().mean()),
        cosine_median=float(cosine.quantile(0.5)),
        cosine_5_percent=float(cosine.quantile(0.05)),
        cosine_worst=float(cosine.min()),
    )


def _features(parts: Split, images: Tensor) -> CutActivations:
    with torch.inference_mode():
        features = parts.features(images).float()
    return features.rows(torch.arange(len(images)))


def _maps(parts: Split, features: CutActivations, classes: Tensor) -> Tensor:
    """Return the Grad-CAM maps (B, h, w) of a class for each image."""
    with torch.enable_grad():
        gradients = parts.gradients(features, lambda logits: logits.gather(1, classes[:, None]).sum(dim=1))
    return cam.GRADIENT_METHODS["gradcam"].maps(parts.activations(features), gradients).relu()


def _cosines(ours: Tensor, expected: Tensor) -> Tensor:
    """Return the cosines (B,) of maps (B, h, w); 1 for two maps of zeros, 0 if only one has evidence."""
    cosines = functional.cosine_similarity(ours.flatten(1), expected.flatten(1))  # (B, h, w) → (B,)
    return cosines.masked_fill((ours == expected).flatten(1).all(dim=1), 1)
