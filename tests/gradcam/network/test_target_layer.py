"""The default target layer, and checks of a layer's name."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gradcam.errors import UnknownName
from gradcam.network.architecture import NetworkError, build
from gradcam.network.target_layer import check_layer, default_layer


class SqueezeAndExcitation(nn.Module):
    """Its last two convolutions run on a single position; the last registered one never runs."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=4)
        self.squeeze = nn.Conv2d(8, 2, 1)
        self.excite = nn.Conv2d(2, 8, 1)
        self.fc = nn.Linear(8, 5)
        self.auxiliary = nn.Conv2d(8, 8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = x * self.excite(self.squeeze(x.mean((2, 3), keepdim=True)).relu()).sigmoid()
        return self.fc(x.mean((2, 3)))


class Branches(nn.Module):
    """The last convolution computes 4 of the 12 channels that the classifier reads."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Conv2d(3, 8, 3, stride=4)
        self.right = nn.Conv2d(3, 4, 3, stride=4)
        self.norm = nn.BatchNorm2d(12)
        self.fc = nn.Linear(12, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.norm(torch.cat([self.left(x), self.right(x)], 1)).mean((2, 3)))


@pytest.mark.parametrize(("model", "layer"), [(SqueezeAndExcitation, "stem"), (Branches, "norm")])
def test_default_layer_is_the_last_that_contains_everything(model: type[nn.Module], layer: str) -> None:
    built = model().eval().requires_grad_(False)
    assert default_layer(built, (64, 64)) == layer
    assert not any(module._forward_hooks for module in built.modules())


def test_network_without_a_grid_has_no_default_layer() -> None:
    with pytest.raises(NetworkError, match=r"No layer's output is a grid of positions on the image"):
        default_layer(nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 2)), (8, 8))


def test_check_layer() -> None:
    built = build("resnet18", 10)
    check_layer(built, "layer4.1.conv2")
    check_layer(built, "layer4")
    with pytest.raises(UnknownName) as raised:
        check_layer(built, "layer4.1.conv9")
    assert (raised.value.code, raised.value.status) == ("unknown_layer", 422)
    assert str(raised.value).startswith("Unknown layer 'layer4.1.conv9'; did you mean 'layer4.1.conv")
    with pytest.raises(UnknownName):
        check_layer(built, "")
