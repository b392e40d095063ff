"""The network, cut at the target layer into a trunk and a head.

The trunk takes images to the values at the cut: the activations of the target layer, and whatever
else the rest of the network needs (in a ResNet the residual branch that goes around the layer). The
head takes these to the logits. The trunk is the expensive part and never sees autograd; the head is
replayed with gradients for the (image, class) pairs that are to be explained.

Networks are cut with torch.fx. One that torch.fx cannot trace is cut with hooks: its trunk ends at the layer,
its head is the whole network with the layer's output substituted. The results are the same, the head is dearer.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from gradcam.network.layout import Layout
from gradcam.network.target_layer import check_layer
from gradcam.split.fx_split import Untraceable, split_with_fx
from gradcam.split.hook_split import HookHead, HookTrunk
from gradcam.split.parts import Split, SplitError
from gradcam.split.verification import random_images, replay_bytes, verify

logger = logging.getLogger(__name__)


def split(network: nn.Module, layer: str, input_size: tuple[int, int]) -> Split:
    """Cuts a network in eval mode at `layer` and proves the parts equal to the whole on random images.

    Args:
        network: stays as it is.
        layer: name of the module whose output is the cut.
        input_size: height and width of the images, in pixels.

    Raises:
        UnknownName: the network has no such layer.
        SplitError: the network cannot be cut or explained there.
    """
    check_layer(network, layer)
    images = random_images(network, input_size, 3)
    # GPUs round to TF32 in convolutions if torch lets them, by more than the parts may be off.
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        activations, logits = _observe(network, layer, images)
        layout = _layout(network.get_submodule(layer), activations, layer, input_size)
        try:
            trunk, head = split_with_fx(network, layer, images)
            method: Literal["fx", "hook"] = "fx"
        except Untraceable as reason:
            logger.info("%s is cut with hooks: %s", layer, reason)
            trunk, head = HookTrunk(network, layer), HookHead(network, layer)
            method = "hook"
        parts = Split(layer, trunk, head, method, layout, replay_bytes=0)
        verify(parts, images, activations, logits)
        return replace(parts, replay_bytes=replay_bytes(parts, images[:1]))


def _observe(network: nn.Module, layer: str, images: Tensor) -> tuple[Tensor, Tensor]:
    """Runs the network as it is; returns the layer's output and the logits.

    Raises:
        SplitError: the layer is not executed exactly once, or gives or the network gives no tensor.
    """
    observed: list[Any] = []
    # Cloned, because an in-place operation behind the layer overwrites what the hook is given.
    hook = network.get_submodule(layer).register_forward_hook(
        lambda module, inputs, output: observed.append(output.clone() if isinstance(output, Tensor) else output)
    )
    try:
        with torch.no_grad():
            logits = network(images)  # (B, K)
    finally:
        hook.remove()
    if len(observed) != 1:
        executed = f"is executed {len(observed)} times" if observed else "is not executed"
        raise SplitError(f"cannot cut at {layer!r}: it {executed}; name a layer that is executed once")
    if not isinstance(observed[0], Tensor):
        raise SplitError(f"cannot cut at {layer!r}: its output is a {type(observed[0]).__name__}, not a tensor")
    if not isinstance(logits, Tensor) or logits.dim() != 2 or len(logits) != len(images):
        raise SplitError(f"cannot cut at {layer!r}: the network must give one tensor of logits (batch, classes)")
    return observed[0], logits


def _layout(module: nn.Module, activations: Tensor, layer: str, input_size: tuple[int, int]) -> Layout:
    shape = tuple(activations.shape)
    layout = Layout.of(module, shape, input_size)
    if layout is None:
        raise SplitError(
            f"cannot explain {layer!r}: its output {shape[1:]} an image is no grid of positions on the picture"
        )
    return layout
