"""Every architecture: built by name with seeded weights, split at its default layer, and explained.

The oracle is autograd through the whole network. Inputs are as small as the architecture allows. `make test` runs the
smallest network of each family, `make test-full` all 80 in about six minutes on one core.
"""

from __future__ import annotations

import logging
import math

import pytest
import torch
from torch import Tensor, nn

from gradcam.engines.engine import accelerate
from gradcam.explain.explainer import Explainer, ForwardPass, Pair
from gradcam.network.architecture import OPTIONS, architectures, build
from gradcam.network.target_layer import default_layer
from gradcam.split.splitter import split
from gradcam.split.verification import random_images

CLASSES = 7
PATCH = {"vit_b_16": 16, "vit_b_32": 32, "vit_l_16": 16, "vit_l_32": 32, "vit_h_14": 14}

# Networks for which the tutorial's rule, the last convolution, fails: it is unused, or has one position, or is partial.
OTHER_THAN_LAST_CONVOLUTION = {
    "densenet121": "features.norm5",
    "densenet161": "features.norm5",
    "densenet169": "features.norm5",
    "densenet201": "features.norm5",
    "googlenet": "inception5b",
    "inception_v3": "Mixed_7c",
    "maxvit_t": "blocks.3.layers.1.layers.grid_attention",
    **dict.fromkeys(("swin_t", "swin_s", "swin_b", "swin_v2_t", "swin_v2_s", "swin_v2_b"), "norm"),
    **{name: f"encoder.layers.encoder_layer_{n}.ln_1" for name, n in zip(PATCH, (11, 11, 23, 23, 31), strict=True)},
}

SMALLEST = (
    "alexnet",
    "convnext_tiny",
    "densenet121",
    "efficientnet_b0",
    "efficientnet_v2_s",
    "googlenet",
    "inception_v3",
    "mnasnet0_5",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "regnet_x_400mf",
    "regnet_y_400mf",
    "resnet18",
    "resnext50_32x4d",
    "shufflenet_v2_x0_5",
    "squeezenet1_1",
    "swin_t",
    "swin_v2_t",
    "vgg11",
    "vit_b_32",
)


def smallest_side(architecture: str) -> int:
    if architecture in PATCH:
        return 3 * PATCH[architecture]
    return {"maxvit_t": 224, "inception_v3": 107}.get(architecture, 64)


@pytest.fixture
def quick_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip the architectures' own initialization, which takes most of the time; `seed` fills all weights."""
    for name in ("kaiming_normal_", "kaiming_uniform_", "normal_", "trunc_normal_", "uniform_", "xavier_uniform_"):
        monkeypatch.setattr(nn.init, name, lambda tensor, *args, **kwargs: tensor)
    for architecture, patch in PATCH.items():
        monkeypatch.setitem(OPTIONS, architecture, {"image_size": 3 * patch})


def seed(model: nn.Module) -> None:
    """Fill in weights whose outputs keep their scale from layer to layer, and non-trivial normalizations."""
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1:
            fan_in = parameter[0].numel()
            parameter.uniform_(-1, 1, generator=generator).mul_((3 / fan_in) ** 0.5)
        else:
            low = 0.5 if name.endswith("weight") else -0.1
            parameter.uniform_(low, low + 0.5, generator=generator)
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            buffer.uniform_(-0.1, 0.1, generator=generator)


def reference(model: nn.Module, layer: str, images: Tensor, targets: Tensor) -> Tensor:
    """Grad-CAM before its ReLU by autograd through the whole network, (B, h, w)."""
    outputs: list[Tensor] = []
    hook = model.get_submodule(layer).register_forward_hook(lambda module, inputs, output: outputs.append(output * 1))
    # Later modules use the copy, so that its gradients exist even if they work in place.
    substitute = model.get_submodule(layer).register_forward_hook(lambda module, inputs, output: outputs[-1] * 1)
    logits = model(images.clone().requires_grad_())
    hook.remove()
    substitute.remove()
    (activations,) = outputs
    (gradients,) = torch.autograd.grad(logits.gather(1, targets[:, None]).sum(), activations)
    grid, slopes = as_grid(activations.detach()), as_grid(gradients)
    return (slopes.mean(dim=(2, 3), keepdim=True) * grid).sum(dim=1)


def over_maximum(heat: Tensor) -> Tensor:
    return heat.relu() / heat.relu().amax(dim=(1, 2), keepdim=True).clamp_min(1e-30)


def as_grid(values: Tensor) -> Tensor:
    if values.dim() == 3:  # the class token, then the patches row by row
        side = round((values.shape[1] - 1) ** 0.5)
        return values[:, 1:].reshape(len(values), side, side, -1).permute(0, 3, 1, 2)
    return values if values.shape[2] == values.shape[3] else values.permute(0, 3, 1, 2)


@pytest.mark.parametrize(
    "architecture",
    [pytest.param(name, marks=pytest.mark.slow if name in SMALLEST else pytest.mark.full) for name in architectures()],
)
def test_map_of_the_default_layer_equals_autograd(
    architecture: str, quick_weights: None, caplog: pytest.LogCaptureFixture
) -> None:
    side = smallest_side(architecture)
    model = build(architecture, CLASSES).to(memory_format=torch.channels_last)  # as in the pipeline
    seed(model)
    layer = default_layer(model, (side, side))
    convolutions = [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)]
    assert layer == OTHER_THAN_LAST_CONVOLUTION.get(architecture, convolutions[-1])

    unaccelerated = split(model, layer, (side, side))
    assert unaccelerated.method == "fx"
    with caplog.at_level(logging.INFO):
        parts = accelerate(unaccelerated, "auto", "float32", random_images(model, (side, side), 2))
    assert parts.engine == "openvino", caplog.text
    images = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        features = parts.features(images)
        forward = ForwardPass(parts, images, features, parts.logits(features))
    targets = torch.tensor([3, 5])
    evidence_for, evidence_against = (
        Explainer(max_replay_bytes=2**28).maps(forward, [Pair(0, 3, method), Pair(1, 5, method)], math.inf)[0].heatmaps
        for method in ("gradcam", "counterfactual")
    )

    heat = reference(model, layer, images, targets)
    assert heat.abs().amax(dim=(1, 2)).gt(0).any(), "normalized maps of zeros would be equal, too"
    torch.testing.assert_close(evidence_for, over_maximum(heat), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(evidence_against, over_maximum(-heat), rtol=1e-3, atol=1e-3)
