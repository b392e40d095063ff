"""Formulas of the methods, compared with numbers worked out by hand."""

from __future__ import annotations

import pytest
import torch
from captum.attr import LayerGradCam
from torch import Tensor, nn

from gradcam.explain import cam
from gradcam.explain.cam import Maps

# Two channels on 2 × 3 positions.
ACTIVATIONS = torch.tensor([[[[1.0, 2, 3], [4, 5, 6]], [[10.0, 0, -10], [20, 0, 5]]]])


# Their means over the positions are 2 and -0.5.
GRADIENTS = torch.tensor([[[[0.0, 1, 2], [2, 3, 4]], [[0.0, 0, 0], [-6, 3, 0]]]])


# Two times the first channel minus half the second.
MAP = torch.tensor([[[-3.0, 4, 11], [-2, 10, 9.5]]])


def test_gradcam_weights_channels_by_the_mean_of_their_gradients() -> None:
    torch.testing.assert_close(cam.gradcam(ACTIVATIONS, GRADIENTS), MAP, rtol=0, atol=0)


def test_normalize_clips_at_zero_and_divides_by_the_maximum() -> None:
    expected = torch.tensor([[[0, 4 / 11, 1], [0, 10 / 11, 9.5 / 11]]])
    torch.testing.assert_close(cam.normalize(MAP).heatmaps, expected)


def test_map_that_is_positive_everywhere_keeps_its_minimum() -> None:
    # Min-max normalization, as in other libraries, would make the smallest value 0 and the second map NaN.
    maps = torch.tensor([[[2.0, 4.0]], [[3.0, 3.0]]])
    assert cam.normalize(maps).heatmaps.tolist() == [[[0.5, 1.0]], [[1.0, 1.0]]]


@pytest.mark.parametrize("value", [0.0, -0.0, -1.0, -1e-30])
def test_map_without_positive_values_becomes_zero(value: float) -> None:
    heatmaps, strengths = cam.normalize(torch.full((1, 2, 3), value))
    assert heatmaps.tolist() == torch.zeros(1, 2, 3).tolist()
    assert strengths.tolist() == [0]


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_normalize_does_not_depend_on_the_scale(scale: float) -> None:
    scaled, normalized = cam.normalize(MAP * scale), cam.normalize(MAP)
    torch.testing.assert_close(scaled.heatmaps, normalized.heatmaps)
    torch.testing.assert_close(scaled.strengths, normalized.strengths * scale)


def test_heatmap_times_strength_is_the_map_after_relu() -> None:
    raw = torch.cat([MAP, -MAP, 0 * MAP])  # (3, 2, 3)
    heatmaps, strengths = cam.normalize(raw)
    assert strengths.tolist() == [11, 3, 0]
    torch.testing.assert_close(heatmaps * strengths[:, None, None], raw.clamp_min(0))


def test_rows_are_independent() -> None:
    activations = torch.cat([ACTIVATIONS, 3 * ACTIVATIONS.flip(3), ACTIVATIONS])  # (3, 2, 2, 3)
    gradients = torch.cat([GRADIENTS, GRADIENTS, -GRADIENTS])
    maps = cam.normalize(cam.gradcam(activations, gradients)).heatmaps
    alone = cam.normalize(MAP).heatmaps
    torch.testing.assert_close(maps[0:1], alone)
    torch.testing.assert_close(maps[1:2], alone.flip(2))
    torch.testing.assert_close(maps[2:3], cam.normalize(-MAP).heatmaps)


def test_every_method_returns_one_map_per_row() -> None:
    generator = torch.Generator().manual_seed(0)
    activations, gradients = torch.randn(2, 3, 5, 4, 6, generator=generator)
    for name, method in cam.GRADIENT_METHODS.items():
        maps = method.maps(activations, gradients)
        alone = torch.cat([method.maps(activations[i : i + 1], gradients[i : i + 1]) for i in range(3)])
        torch.testing.assert_close(maps, alone, msg=name)
        assert maps.shape == (3, 4, 6), name


def test_gradcam_equals_captum_on_its_own_test_case() -> None:
    class OneConvolution(nn.Module):
        """Captum's `BasicModel_ConvNet_One_Conv`, with its weights."""

        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(1, 2, 3, 1)
            self.fc1 = nn.Linear(8, 4)
            self.conv1.weight.data = torch.ones(2, 1, 3, 3)
            self.conv1.bias = nn.Parameter(torch.tensor([-50.0, -75.0]))
            self.fc1.weight.data = torch.cat([torch.ones(4, 5), -torch.ones(4, 3)], dim=1)
            self.fc1.bias.data = torch.zeros(4)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc1(self.conv1(x).relu().flatten(1)).relu()

    model = OneConvolution().requires_grad_(False)
    x = torch.arange(16.0).view(1, 1, 4, 4)
    theirs = LayerGradCam(model.requires_grad_(True), model.conv1).attribute(x, 0)[0]
    activations = model.conv1(x)
    (gradients,) = torch.autograd.grad(model.fc1(activations.relu().flatten(1)).relu()[0, 0], activations)
    torch.testing.assert_close(cam.gradcam(activations.detach(), gradients), theirs.detach())
    assert theirs.flatten().tolist() == [11.25, 13.5, 20.25, 22.5]


def test_fused_maps_are_the_mean_at_the_highest_resolution() -> None:
    coarse = torch.tensor([[[1.0, 0.0]]])
    fine = torch.tensor([[[0.0, 0.0, 1.0, 0.0]]])
    mean = (torch.tensor([1.0, 0.75, 0.25, 0.0]) + fine[0, 0]) / 2
    fused = cam.fuse([Maps(coarse, torch.tensor([3.0])), Maps(fine, torch.tensor([0.5]))])
    torch.testing.assert_close(fused.heatmaps, (mean / mean.max())[None, None])
    assert fused.strengths.tolist() == [1.75]


@pytest.mark.parametrize("method", [name for name in cam.METHODS if name != "scorecam"])
@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e12])
def test_maps_of_extreme_numbers_are_valid(method: str, scale: float) -> None:
    """They have neither NaN nor infinity if activations and gradients are 0, tiny, or huge."""
    generator = torch.Generator().manual_seed(0)
    activations, gradients = (torch.randn(2, 3, 4, 4, generator=generator) * scale for _ in range(2))
    if method == "ablationcam":
        maps = cam.ablationcam(activations, torch.zeros(2), torch.zeros(2, 3))
    else:
        maps = cam.GRADIENT_METHODS[method].maps(activations, gradients)
    normalized, strengths = cam.normalize(maps)
    assert normalized.isfinite().all()
    assert normalized.min() >= 0
    assert normalized.max() <= 1
    assert strengths.isfinite().all()
    assert normalized.amax(dim=(1, 2)).equal((strengths > 0).float())
