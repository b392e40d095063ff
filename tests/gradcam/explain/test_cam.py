"""Activations and gradients to maps, against numbers worked out by hand."""

from __future__ import annotations

import pytest
import torch

from gradcam.explain import cam

# Two channels on 2 × 3 positions.
ACTIVATIONS = torch.tensor([[[[1.0, 2, 3], [4, 5, 6]], [[10.0, 0, -10], [20, 0, 5]]]])
# Their means over the positions are 2 and -0.5.
GRADIENTS = torch.tensor([[[[0.0, 1, 2], [2, 3, 4]], [[0.0, 0, 0], [-6, 3, 0]]]])
# Two times the first channel minus half the second.
MAP = torch.tensor([[[-3.0, 4, 11], [-2, 10, 9.5]]])


def test_gradcam_weighs_channels_by_the_mean_of_their_gradients() -> None:
    torch.testing.assert_close(cam.gradcam(ACTIVATIONS, GRADIENTS), MAP, rtol=0, atol=0)


def test_normalize_cuts_at_zero_and_divides_by_the_maximum() -> None:
    expected = torch.tensor([[[0, 4 / 11, 1], [0, 10 / 11, 9.5 / 11]]])
    torch.testing.assert_close(cam.normalize(MAP), expected)


def test_a_map_that_is_positive_everywhere_keeps_its_floor() -> None:
    # Min-max normalisation, as other libraries do it, would make the smallest value 0 and the second map NaN.
    maps = torch.tensor([[[2.0, 4.0]], [[3.0, 3.0]]])
    assert cam.normalize(maps).tolist() == [[[0.5, 1.0]], [[1.0, 1.0]]]


@pytest.mark.parametrize("value", [0.0, -0.0, -1.0, -1e-30])
def test_a_map_with_nothing_positive_becomes_zero(value: float) -> None:
    assert cam.normalize(torch.full((1, 2, 3), value)).tolist() == torch.zeros(1, 2, 3).tolist()


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_normalize_does_not_depend_on_the_scale(scale: float) -> None:
    torch.testing.assert_close(cam.normalize(MAP * scale), cam.normalize(MAP))


def test_rows_are_independent() -> None:
    activations = torch.cat([ACTIVATIONS, 3 * ACTIVATIONS.flip(3), ACTIVATIONS])  # (3, 2, 2, 3)
    gradients = torch.cat([GRADIENTS, GRADIENTS, -GRADIENTS])
    maps = cam.normalize(cam.gradcam(activations, gradients))
    alone = cam.normalize(MAP)
    torch.testing.assert_close(maps[0:1], alone)
    torch.testing.assert_close(maps[1:2], alone.flip(2))
    torch.testing.assert_close(maps[2:3], cam.normalize(-MAP))


def test_every_method_gives_a_map_a_row() -> None:
    generator = torch.Generator().manual_seed(0)
    activations, gradients = torch.randn(2, 3, 5, 4, 6, generator=generator)
    for name, method in cam.GRADIENT_METHODS.items():
        maps = method.maps(activations, gradients)
        alone = torch.cat([method.maps(activations[i : i + 1], gradients[i : i + 1]) for i in range(3)])
        torch.testing.assert_close(maps, alone, msg=name)
        assert maps.shape == (3, 4, 6), name
