"""Split a network at the target layer into a trunk and a head.

The trunk maps images to the values at the split point: the activations of the target layer, and any other tensors that
the rest of the network needs (in a ResNet, the residual branch that bypasses the layer). The head maps these values to
the logits. The trunk is the expensive part and never sees autograd; the head is replayed with gradients for the
(image, class) pairs to be explained.

The split method `fx` is tried first. Networks that torch.fx cannot trace are split with hooks: the trunk stops at the
layer, and the head is the whole network with the layer's output substituted. The results are equal, but the head is
more expensive.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from gradcam.network.layout import Layout
from gradcam.network.target_layer import check_layer
from gradcam.split.costs import measure_head_share, measure_replay_bytes
from gradcam.split.fx_split import Untraceable, split_with_fx
from gradcam.split.hook_split import split_with_hooks
from gradcam.split.parts import Split, SplitError
from gradcam.split.verification import random_images, verify

logger = logging.getLogger(__name__)


def split(network: nn.Module, layer: str, input_size: tuple[int, int]) -> Split:
    """Split a network in eval mode at `layer`, and verify on random images that the parts equal the network.

    Args:
        network: not modified.
        layer: name of the module whose output is explained.
        input_size: height and width of the images, in pixels.

    Raises:
        UnknownName: the network has no such layer.
        SplitError: the network cannot be split or explained there.
    """
    check_layer(network, layer)
    images = random_images(network, input_size, 3)
    # By default, torch lets GPUs round to TF32 in convolutions, which exceeds the tolerance of the verification.
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        activations, logits = _observe(network, layer, images)
        layout = _layout(network.get_submodule(layer), activations, layer, input_size)
        method: Literal["fx", "hook"] = "fx"
        try:
            trunk, head = split_with_fx(network, layer, images)
        except Untraceable as reason:
            logger.info("layer %r is split with hooks: %s", layer, reason)
            trunk, head = split_with_hooks(network, layer)
            method = "hook"
        channels = activations.shape[layout.channel_dim]
        parts = Split(layer, trunk, head, method, layout, replay_bytes=0, channels=channels, head_share=1.0)
        verify(parts, images, activations, logits)
        return replace(
            parts,
            replay_bytes=measure_replay_bytes(parts, images[:1]),
            head_share=measure_head_share(parts, images[:1]),
        )


def _observe(network: nn.Module, layer: str, images: Tensor) -> tuple[Tensor, Tensor]:
    """Run the unmodified network; return the layer's output (B, …) and the logits (B, K).

    Raises:
        SplitError: the layer is not executed exactly once, or one of the two outputs is not a suitable tensor.
    """
    outputs: list[Any] = []
    # Cloned, because a later in-place operation overwrites the tensor that the hook receives.
    hook = network.get_submodule(layer).register_forward_hook(
        lambda module, inputs, output: outputs.append(output.clone() if isinstance(output, Tensor) else output)
    )
    try:
        with torch.no_grad():
            logits = network(images)  # (B, K)
    finally:
        hook.remove()
    if len(outputs) != 1:
        executed = f"is executed {len(outputs)} times" if outputs else "is not executed"
        raise SplitError(f"Cannot split at {layer!r}: it {executed}; name a layer that is executed once")
    if not isinstance(outputs[0], Tensor):
        raise SplitError(f"Cannot split at {layer!r}: its output must be a tensor, got {type(outputs[0]).__name__}")
    if not isinstance(logits, Tensor) or logits.dim() != 2 or len(logits) != len(images):
        raise SplitError(f"Cannot split at {layer!r}: the network must return one tensor of logits (batch, classes)")
    return outputs[0], logits


def _layout(module: nn.Module, activations: Tensor, layer: str, input_size: tuple[int, int]) -> Layout:
    shape = tuple(activations.shape)
    layout = Layout.of(module, shape, input_size)
    if layout is None:
        raise SplitError(
            f"Cannot explain {layer!r}: its output must be a grid of positions on the image, "
            f"got shape {shape[1:]} per image"
        )
    return layout
