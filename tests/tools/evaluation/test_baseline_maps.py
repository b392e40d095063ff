"""Maps that do not depend on the network."""

from __future__ import annotations

import math

import pytest
import torch

from tools.evaluation.baseline_maps import baseline


def test_center_is_highest_in_the_middle_and_symmetric() -> None:
    middle = baseline("center", (7, 5), seed=0)
    assert middle.shape == (7, 5)
    assert middle[3, 2] == 1 == middle.max()
    assert torch.allclose(middle, middle.flip(0))
    assert torch.allclose(middle, middle.flip(1))
    # Two sevenths of the side away, with a standard deviation of a quarter.
    assert middle[1, 2] == pytest.approx(math.exp(-((2 / 7) ** 2) / (2 * 0.25**2)))


def test_random_depends_on_the_seed_only() -> None:
    first = baseline("random", (7, 5), seed=3)
    assert torch.equal(first, baseline("random", (7, 5), seed=3))
    assert not torch.equal(first, baseline("random", (7, 5), seed=4))
