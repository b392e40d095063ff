"""Trunk and head of a network that torch.fx cannot trace."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


class _Reached(Exception):
    """The target layer has been executed; what comes after it is not needed."""


class HookTrunk(nn.Module):
    """Trunk of a network that torch.fx cannot trace: images to the layer's output, and the images themselves."""

    def __init__(self, network: nn.Module, layer: str) -> None:
        super().__init__()
        self.network = network
        self.layer = layer

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Run the network up to the layer."""
        outputs: list[Tensor] = []

        def stop(module: nn.Module, inputs: Any, output: Tensor) -> None:
            outputs.append(output)
            raise _Reached

        hook = self.network.get_submodule(self.layer).register_forward_hook(stop)
        try:
            self.network(images)
        except _Reached:
            pass
        finally:
            hook.remove()
        return outputs[0], images


class HookHead(nn.Module):
    """Head of a network that torch.fx cannot trace: the network, with the layer's output substituted."""

    def __init__(self, network: nn.Module, layer: str) -> None:
        super().__init__()
        self.network = network
        self.layer = layer

    def forward(self, activations: Tensor, images: Tensor) -> Any:
        """Run the network with `activations` as the layer's output."""
        hook = self.network.get_submodule(self.layer).register_forward_hook(lambda module, inputs, output: activations)
        try:
            return self.network(images)
        finally:
            hook.remove()
