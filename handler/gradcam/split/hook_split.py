"""Split method `hook`, for networks that torch.fx cannot trace."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


def split_with_hooks(network: nn.Module, layer: str) -> tuple[nn.Module, nn.Module]:
    """Return a trunk that stops the network at the layer, and a head that substitutes the layer's output."""
    return _HookTrunk(network, layer), _HookHead(network, layer)


class _LayerReached(Exception):
    """The target layer has been executed; the modules after it need not run."""


class _HookTrunk(nn.Module):
    """Maps images to the layer's output and the images themselves, which the head needs."""

    def __init__(self, network: nn.Module, layer: str) -> None:
        super().__init__()
        self.network = network
        self.layer = layer

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        outputs: list[Tensor] = []

        def stop(module: nn.Module, inputs: Any, output: Tensor) -> None:
            outputs.append(output)
            raise _LayerReached

        hook = self.network.get_submodule(self.layer).register_forward_hook(stop)
        try:
            self.network(images)
        except _LayerReached:
            pass
        finally:
            hook.remove()
        return outputs[0], images


class _HookHead(nn.Module):
    """Maps activations and images to logits: the whole network, with the layer's output substituted."""

    def __init__(self, network: nn.Module, layer: str) -> None:
        super().__init__()
        self.network = network
        self.layer = layer

    def forward(self, activations: Tensor, images: Tensor) -> Any:
        hook = self.network.get_submodule(self.layer).register_forward_hook(lambda module, inputs, output: activations)
        try:
            return self.network(images)
        finally:
            hook.remove()
