"""Independent implementations of Grad-CAM, and seeded networks and images to run them on.

This module does not import the code under test. `tutorial` uses two hooks during one full forward and backward pass,
as Grad-CAM tutorials do. `autograd_at` replaces the layer's output by a leaf tensor; it also works where an in-place
operation follows the layer and rules out a full backward hook.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torchvision import transforms

ARCHITECTURE_MEAN = (0.485, 0.456, 0.406)
ARCHITECTURE_STD = (0.229, 0.224, 0.225)


# ----------------------------------------------------------------------------- the algorithm


@dataclass(frozen=True)
class Observed:
    """Activations and gradients at a layer for B images."""

    activations: Tensor
    """(B, C, h, w)."""
    gradients: Tensor
    """(B, C, h, w), of the chosen logit of each image."""
    logits: Tensor
    """(B, K)."""

    @property
    def weighted_sum(self) -> Tensor:
        """Grad-CAM before ReLU and division, (B, h, w)."""
        weights = self.gradients.mean(dim=(2, 3))  # (B, C)
        return torch.einsum("bc,bchw->bhw", weights, self.activations)

    @property
    def heatmaps(self) -> Tensor:
        """The tutorial's heatmaps, (B, h, w); NaN for a class without evidence, as in the tutorial."""
        positive = torch.relu(self.weighted_sum)
        return torch.stack([heatmap / heatmap.max() for heatmap in positive])


def target_layer(network: nn.Module) -> str:
    """Return the name of the convolution that was registered last."""
    names: list[str] = [name for name, module in network.named_modules() if isinstance(module, nn.Conv2d)]
    return names[-1]


def tutorial(network: nn.Module, layer: str, images: Tensor, classes: list[int], versus: int | None = None) -> Observed:
    """Run the whole network forward and backward with two hooks, one image of (B, 3, H, W) at a time.

    With `versus`, the differentiated score is the class's logit minus the logit of the class `versus`.
    """
    network = copy.deepcopy(network).requires_grad_(True)
    module = network.get_submodule(layer)
    captured: dict[str, Tensor] = {}

    def keep_activations(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
        captured["activations"] = output.detach()

    def keep_gradients(_module: nn.Module, _grad_input: Any, grad_output: Any) -> None:
        captured["gradients"] = grad_output[0].detach()

    module.register_forward_hook(keep_activations)
    module.register_full_backward_hook(keep_gradients)
    rows = []
    for image, index in zip(images, classes, strict=True):
        logits = network(image[None].clone().requires_grad_())  # (1, K); a hook on the first layer needs gradients
        one_hot = torch.zeros_like(logits)
        one_hot[0, index] = 1
        if versus is not None:
            one_hot[0, versus] = -1
        network.zero_grad()
        logits.backward(one_hot)
        rows.append(Observed(captured["activations"], captured["gradients"], logits.detach()))
    return _stacked(rows)


def autograd_at(network: nn.Module, layer: str, images: Tensor, classes: list[int]) -> Observed:
    """Replace the layer's output by a leaf tensor and differentiate the chosen logit, one image at a time."""
    network = copy.deepcopy(network)
    leaves: list[Tensor] = []

    def replace(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        leaves.append(output.detach().clone().requires_grad_())
        return leaves[-1].clone()

    network.get_submodule(layer).register_forward_hook(replace)
    rows = []
    for image, index in zip(images, classes, strict=True):
        with torch.enable_grad():
            logits = network(image[None])  # (1, K)
            (gradients,) = torch.autograd.grad(logits[0, index], leaves[-1])
        rows.append(Observed(leaves[-1].detach(), gradients, logits.detach()))
    return _stacked(rows)


def _stacked(rows: list[Observed]) -> Observed:
    return Observed(
        torch.cat([row.activations for row in rows]),
        torch.cat([row.gradients for row in rows]),
        torch.cat([row.logits for row in rows]),
    )


# ----------------------------------------------------------------------------- input and overlay


def model_input(
    image: Image.Image,
    *,
    input_size: tuple[int, int] = (224, 224),
    crop_from: int | None = None,
    mean: tuple[float, ...] = ARCHITECTURE_MEAN,
    std: tuple[float, ...] = ARCHITECTURE_STD,
) -> Tensor:
    """Prepare an RGB image with torchvision's transforms, (1, 3, H, W).

    Args:
        image: a decoded image.
        input_size: height and width.
        crop_from: length of the shorter side before the center crop, in pixels; None resizes without cropping.
        mean: mean of each channel.
        std: standard deviation of each channel.
    """
    resize = (
        [transforms.Resize(input_size)]
        if crop_from is None
        else [transforms.Resize(crop_from), transforms.CenterCrop(input_size)]
    )
    steps = [*resize, transforms.ToTensor(), transforms.Normalize(mean, std)]
    prepared: Tensor = transforms.Compose(steps)(image)
    return prepared[None]


def overlay(image: NDArray[np.uint8], heatmap: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Blend an RGB image (H, W, 3) with the map in JET colors, 60 to 40, as the tutorial does; return BGR."""
    height, width = image.shape[:2]
    resized = cv2.resize(heatmap, (width, height))
    colors = cv2.applyColorMap(np.uint8(255 * resized), cv2.COLORMAP_JET)
    blended = cv2.addWeighted(cv2.cvtColor(image, cv2.COLOR_RGB2BGR), 0.6, colors, 0.4, 0)
    return np.asarray(blended, dtype=np.uint8)


# ----------------------------------------------------------------------------- networks and images


def seeded(network: nn.Module, seed: int = 0) -> nn.Module:
    """Give every parameter and statistic a seeded value, chosen so that each term of a layer has an effect."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(tensor: Tensor, low: float, high: float) -> None:
        tensor.copy_(torch.empty(tensor.shape).uniform_(low, high, generator=generator))

    with torch.no_grad():
        for module in network.modules():
            for name, parameter in module.named_parameters(recurse=False):
                if isinstance(module, nn.Linear):
                    bound = (1 / parameter.shape[-1]) ** 0.5
                    uniform(parameter, -bound, bound)
                elif parameter.dim() >= 2:
                    bound = (6 / parameter[0].numel()) ** 0.5
                    uniform(parameter, -bound, bound)
                elif isinstance(module, nn.BatchNorm2d) and name == "weight":
                    uniform(parameter, 0.6, 1.4)
                else:
                    uniform(parameter, -0.2, 0.2)
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None
                assert module.running_var is not None
                uniform(module.running_mean, -0.2, 0.2)
                uniform(module.running_var, 0.6, 1.4)
    return network.eval().requires_grad_(False)


def seeded_image(width: int, height: int, seed: int) -> Image.Image:
    """Return a seeded RGB image with coarse and fine structure."""
    generator = np.random.default_rng(seed)
    coarse = Image.fromarray(generator.integers(0, 256, (5, 6, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), dtype=np.int16)
    noise = generator.integers(-20, 21, (height, width, 3))
    return Image.fromarray((smooth + noise).clip(0, 255).astype(np.uint8))
