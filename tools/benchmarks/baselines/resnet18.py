"""ResNet-18 in the form that TorchServe's stock handler needs: a file with one class."""

from __future__ import annotations

from torchvision.models.resnet import BasicBlock, ResNet


class ResNet18(ResNet):  # type: ignore[misc]
    """torchvision's own."""

    def __init__(self) -> None:
        super().__init__(BasicBlock, [2, 2, 2, 2])
