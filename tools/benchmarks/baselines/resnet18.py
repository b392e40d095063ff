"""ResNet-18 as TorchServe's stock handler has it: a file with one class."""

from __future__ import annotations

from torchvision.models.resnet import BasicBlock, ResNet


class ResNet18(ResNet):  # type: ignore[misc]
    """torchvision's own."""

    def __init__(self) -> None:
        super().__init__(BasicBlock, [2, 2, 2, 2])
