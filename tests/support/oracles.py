"""The Grad-CAM tutorial's algorithm written down, and networks with seeded weights to try it on.

Nothing here imports the code under test. `tutorial` keeps what two hooks see in one full forward and
backward pass; `autograd_at` replaces the layer's output by a leaf instead, so it also knows the answer where a
full backward hook cannot be used, because an in-place operation follows the layer.
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
    """What is seen at a layer, of B images."""

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
        """The tutorial's heatmaps, (B, h, w); NaN where nothing speaks for the class, as there."""
        positive = torch.relu(self.weighted_sum)
        return torch.stack([heatmap / heatmap.max() for heatmap in positive])


def target_layer(network: nn.Module) -> str:
    """Returns the name of the last convolution that is registered."""
    return [name for name, module in network.named_modules() if isinstance(module, nn.Conv2d)][-1]


def tutorial(network: nn.Module, layer: str, images: Tensor, classes: list[int]) -> Observed:
    """Runs the whole network forwards and backwards under two hooks, one image of (B, 3, H, W) at a time."""
    network = copy.deepcopy(network).requires_grad_(True)
    module = network.get_submodule(layer)
    seen: dict[str, Tensor] = {}

    def keep_activations(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
        seen["activations"] = output.detach()

    def keep_gradients(_module: nn.Module, _grad_input: Any, grad_output: Any) -> None:
        seen["gradients"] = grad_output[0].detach()

    module.register_forward_hook(keep_activations)
    module.register_full_backward_hook(keep_gradients)
    rows = []
    for image, index in zip(images, classes, strict=True):
        logits = network(image[None].clone().requires_grad_())  # (1, K); a layer that sees the image needs it to
        one_hot = torch.zeros_like(logits)
        one_hot[0, index] = 1
        network.zero_grad()
        logits.backward(one_hot)
        rows.append(Observed(seen["activations"], seen["gradients"], logits.detach()))
    return _stacked(rows)


def autograd_at(network: nn.Module, layer: str, images: Tensor, classes: list[int]) -> Observed:
    """Puts a leaf in place of the layer's output and differentiates the chosen logit, an image at a time."""
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


# ----------------------------------------------------------------------------- around it


def model_input(
    picture: Image.Image,
    *,
    input_size: tuple[int, int] = (224, 224),
    crop_from: int | None = None,
    mean: tuple[float, ...] = ARCHITECTURE_MEAN,
    std: tuple[float, ...] = ARCHITECTURE_STD,
) -> Tensor:
    """Prepares an RGB picture with torchvision's transforms, (1, 3, H, W).

    Args:
        picture: decoded already.
        input_size: height and width.
        crop_from: length of the shorter side before the centre is cut out; None squashes, as the tutorial does.
        mean: of each channel.
        std: of each channel.
    """
    resize = (
        [transforms.Resize(input_size)]
        if crop_from is None
        else [transforms.Resize(crop_from), transforms.CenterCrop(input_size)]
    )
    steps = [*resize, transforms.ToTensor(), transforms.Normalize(mean, std)]
    prepared: Tensor = transforms.Compose(steps)(picture)
    return prepared[None]


def overlay(picture: NDArray[np.uint8], heatmap: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Draws as the tutorial does: the map resized to the RGB picture (H, W, 3), JET, 60/40; returns BGR."""
    height, width = picture.shape[:2]
    resized = cv2.resize(heatmap, (width, height))
    colors = cv2.applyColorMap(np.uint8(255 * resized), cv2.COLORMAP_JET)
    blended = cv2.addWeighted(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), 0.6, colors, 0.4, 0)
    return np.asarray(blended, dtype=np.uint8)


# ----------------------------------------------------------------------------- things to try it on


def seeded(network: nn.Module, seed: int = 0) -> nn.Module:
    """Gives every parameter and statistic a seeded value under which no term of a layer is idle."""
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


def picture(width: int, height: int, seed: int) -> Image.Image:
    """Returns a seeded picture with large and small structure, RGB."""
    generator = np.random.default_rng(seed)
    coarse = Image.fromarray(generator.integers(0, 256, (5, 6, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), dtype=np.int16)
    noise = generator.integers(-20, 21, (height, width, 3))
    return Image.fromarray((smooth + noise).clip(0, 255).astype(np.uint8))
