"""Agreement and cosines of two trunks, recomputed by hand with NumPy and autograd of the whole head."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gradcam.split.parts import Split
from gradcam.split.splitter import split
from tests.support import oracles
from tools.archive import fidelity
from tools.archive.fidelity import Fidelity

COUNT = 21


class Network(nn.Module):
    """A convolution, the layer to explain, and a linear head with few classes, which noise can exchange."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 8, 3, stride=3)
        self.classes = nn.Linear(8, 5)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.classes(self.layer(images).relu().mean((2, 3)))
        return logits


@pytest.fixture(scope="module")
def parts() -> Split:
    return split(oracles.seeded(Network(), seed=2), "layer", (15, 18))


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randn(COUNT, 3, 15, 18, generator=torch.Generator().manual_seed(3))


def noisy(parts: Split) -> Split:
    """Return the split with a trunk that distorts each image's activations in its own way."""

    def trunk(images: Tensor) -> tuple[Tensor, ...]:
        (activations,) = parts.trunk(images)
        distortion = torch.cos(images.mean((1, 2, 3), keepdim=True) * 50 + torch.arange(8)[:, None, None])
        return (activations + 3 * distortion,)

    return replace(parts, trunk=trunk)


def by_hand(parts: Split, images: Tensor, classes: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return classes (B,) and maps (B, h, w) of these or of the predicted classes."""
    with torch.no_grad():
        (activations,) = parts.trunk(images)
    leaf = activations.clone().requires_grad_()
    head = parts.head(leaf)
    predicted = head.argmax(dim=1)
    (gradients,) = torch.autograd.grad(
        head[torch.arange(len(images)), predicted if classes is None else classes].sum(), leaf
    )
    maps = torch.einsum("bc,bchw->bhw", gradients.mean((2, 3)), activations).relu()
    return predicted, maps


def test_figures_equal_those_computed_by_hand(parts: Split, images: Tensor) -> None:
    other = noisy(parts)

    measured = fidelity.compare(other, parts, images)

    classes, expected = by_hand(parts, images)
    predicted, maps = by_hand(other, images, classes)
    cosines = []
    for ours, theirs in zip(maps.double().flatten(1).numpy(), expected.double().flatten(1).numpy(), strict=True):
        norms = np.linalg.norm(ours) * np.linalg.norm(theirs)
        cosines.append(ours @ theirs / norms if norms else float((ours == theirs).all()))
    agreement = float((predicted == classes).double().mean())
    assert 0.2 < agreement < 1
    assert np.min(cosines) < np.percentile(cosines, 5) < np.median(cosines) < 1
    expected_figures = (agreement, np.median(cosines), np.percentile(cosines, 5), np.min(cosines))
    assert tuple(vars(measured).values()) == pytest.approx(expected_figures, abs=1e-4)


def test_equal_trunks_agree(parts: Split, images: Tensor) -> None:
    assert fidelity.compare(parts, parts, images) == Fidelity(1, 1, 1, 1)


def test_a_map_that_loses_its_evidence_has_cosine_0(parts: Split, images: Tensor) -> None:
    silent = replace(parts, trunk=lambda images: (torch.zeros_like(parts.trunk(images)[0]),))
    assert fidelity.compare(silent, parts, images).cosine_worst == 0


@pytest.mark.parametrize(
    ("agreement", "cosine", "meets"), [(0.95, 0.9, True), (0.949, 0.9, False), (1, 0.899, False), (1, 1, True)]
)
def test_thresholds(agreement: float, cosine: float, meets: bool) -> None:
    assert Fidelity(agreement, 1, cosine, 0).meets(0.95, 0.9) == meets
