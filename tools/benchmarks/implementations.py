"""What the benchmark of methods compares: this project, other libraries, and the plain forward pass.

Each function takes a network, a layer, and a method, and returns a function from images to maps.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from contextlib import redirect_stderr
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from gradcam.engines import engine as engines
from gradcam.explain import cam
from gradcam.explain.explainer import Explainer, ForwardPass, Pair
from gradcam.settings import Settings
from gradcam.split.splitter import split
from gradcam.split.verification import random_images

INPUT_SIZE = (224, 224)
MANY = 10

PLAIN = "plain forward"
PLAIN_LAYOUT = "plain forward in our layout"
OURS = "ours"
OURS_MANY = f"ours, {MANY} classes"
TORCHCAM = "torch-cam"
TORCHCAM_FROZEN = "torch-cam, frozen before the layer"
GRADCAM = "pytorch-grad-cam"
CAPTUM = "Captum"
TWO_HOOKS = "two hooks, full backward"

# The libraries' names of the methods.
TORCHCAM_CLASSES = {
    "gradcam": "GradCAM",
    "gradcam++": "GradCAMpp",
    "xgradcam": "XGradCAM",
    "layercam": "LayerCAM",
    "finercam": "FinerCAM",
    "scorecam": "ScoreCAM",
}
GRADCAM_CLASSES = {
    "gradcam": "GradCAM",
    "gradcam++": "GradCAMPlusPlus",
    "xgradcam": "XGradCAM",
    "hirescam": "HiResCAM",
    "layercam": "LayerCAM",
    "eigencam": "EigenCAM",
    "eigengradcam": "EigenGradCAM",
    "finercam": "FinerCAM",
    "ablationcam": "AblationCAM",
    "scorecam": "ScoreCAM",
}

Explain = Callable[[Tensor], object]
"""Takes images (B, 3, H, W) to a prediction and a map of the predicted class each."""
Make = Callable[[nn.Module, str, str], Explain]


def plain_forward(model: nn.Module) -> Explain:
    """Return the network alone, as served without explanations."""

    def run(images: Tensor) -> Tensor:
        with torch.inference_mode():
            logits: Tensor = model(images)  # (B, K)
        return logits

    return run


def plain_forward_in_our_layout(model: nn.Module) -> Explain:
    """Return the network alone, in this project's memory layout."""
    run = plain_forward(model.to(memory_format=torch.channels_last))
    return lambda images: run(images.to(memory_format=torch.channels_last))


def ours(model: nn.Module, layer: str, method: str, classes: int = 1) -> Explain:
    """Return what the handler does between decoding and rendering, for the most probable classes."""
    parts = split(model.to(memory_format=torch.channels_last), layer, INPUT_SIZE)
    parts = engines.accelerate(parts, "auto", "float32", random_images(model, INPUT_SIZE, 2))
    explainer = Explainer(Settings.max_replay_bytes)

    def run(images: Tensor) -> Tensor:
        with torch.inference_mode():
            images = images.to(memory_format=torch.channels_last)
            features = parts.features(images).float()
            forward = ForwardPass(parts, images, features, parts.logits(features))
        targets = forward.logits.topk(classes, dim=1).indices.tolist()
        pairs = [Pair(row, target, method) for row, classes_of_row in enumerate(targets) for target in classes_of_row]
        maps, _ = explainer.maps(forward, pairs, math.inf)
        return maps.heatmaps

    return run


def torchcam(model: nn.Module, layer: str, method: str) -> Explain:
    """Return torch-cam as its documentation shows it."""
    extractor = getattr(import_module("torchcam.methods"), TORCHCAM_CLASSES[method])(model, layer)
    by_gradients = method in cam.GRADIENT_METHODS

    def run(images: Tensor) -> object:
        with torch.inference_mode(not by_gradients):
            scores = model(images)  # (B, K)
        return extractor(scores.argmax(dim=1).tolist(), scores)

    return run


def torchcam_frozen(model: nn.Module, layer: str, method: str) -> Explain:
    """Return torch-cam without gradients before the layer, as an autograd expert would use it."""
    model.requires_grad_(False)
    model.get_submodule(layer).requires_grad_(True)
    return torchcam(model, layer, method)


def pytorch_grad_cam(model: nn.Module, layer: str, method: str) -> Explain:
    """Return pytorch-grad-cam; without targets it explains the predicted class."""
    explain = getattr(import_module("pytorch_grad_cam"), GRADCAM_CLASSES[method])(model, [model.get_submodule(layer)])

    def run(images: Tensor) -> object:
        with redirect_stderr(io.StringIO()):  # progress bars
            return explain(images, None)

    return run


def captum(model: nn.Module, layer: str, method: str) -> Explain:
    """Return Captum's LayerGradCam; it needs the class, so the prediction is a separate forward pass."""
    explain = import_module("captum.attr").LayerGradCam(model, model.get_submodule(layer))

    def run(images: Tensor) -> object:
        with torch.no_grad():
            classes = model(images).argmax(dim=1)  # (B,)
        return explain.attribute(images, classes, relu_attributions=True)

    return run


def two_hooks(model: nn.Module, layer: str, method: str) -> Explain:
    """Return Grad-CAM as in tutorials: a hook for each direction, and gradients of every parameter."""
    kept: dict[str, Tensor] = {}

    def keep_activations(module: nn.Module, inputs: Any, output: Tensor) -> None:
        kept["activations"] = output.detach()

    def keep_gradients(module: nn.Module, inputs: Any, outputs: Any) -> None:
        kept["gradients"] = outputs[0]

    module = model.get_submodule(layer)
    module.register_forward_hook(keep_activations)
    module.register_full_backward_hook(keep_gradients)

    def run(images: Tensor) -> Tensor:
        logits = model(images)  # (B, K)
        model.zero_grad()
        logits.amax(dim=1).sum().backward()
        weights = kept["gradients"].mean(dim=(2, 3), keepdim=True)  # (B, C, 1, 1)
        maps = (weights * kept["activations"]).sum(dim=1).relu()  # (B, h, w)
        return maps / maps.amax(dim=(1, 2), keepdim=True)

    return run


def baselines(method: str) -> dict[str, Make]:
    """Return the baselines that compute a method, by name."""
    makers: dict[str, Make] = {}
    if method in TORCHCAM_CLASSES:
        makers[TORCHCAM] = torchcam
    if method in GRADCAM_CLASSES:
        makers[GRADCAM] = pytorch_grad_cam
    if method == "gradcam":
        makers |= {TORCHCAM_FROZEN: torchcam_frozen, CAPTUM: captum, TWO_HOOKS: two_hooks}
    return makers
