"""Grad-CAM in a TorchServe handler as usually written: two hooks, and a full backward pass for each image."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from ts.context import Context
from ts.torch_handler.image_classifier import ImageClassifier


class TwoHooks(ImageClassifier):  # type: ignore[misc]
    """The stock handler with heatmaps."""

    def initialize(self, context: Context) -> None:
        """Load the network as the stock handler does, and register hooks at its last convolution."""
        super().initialize(context)
        layer = self.model.layer4[-1].conv2
        layer.register_forward_hook(self._keep_activations)
        layer.register_full_backward_hook(self._keep_gradients)

    def inference(self, data: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Return the images: the network must run with gradients."""
        return data

    def postprocess(self, data: Tensor) -> list[dict[str, Any]]:
        """Classify and explain one image after another."""
        with torch.enable_grad():
            return [self._explained(image[None].to(self.device)) for image in data]

    def _explained(self, image: Tensor) -> dict[str, Any]:
        self.model.zero_grad()
        logits = self.model(image)  # (1, K)
        (labels,) = super().postprocess(logits.detach())
        logits[0, logits.argmax()].backward()
        weights = self.gradients.mean(dim=(2, 3), keepdim=True)  # (1, C, 1, 1)
        heatmap = (weights * self.activations).sum(dim=1)[0].relu()  # (h, w)
        return {"labels": labels, "heatmap": (heatmap / heatmap.max()).tolist()}

    def _keep_activations(self, module: Any, inputs: Any, output: Tensor) -> None:
        self.activations = output.detach()

    def _keep_gradients(self, module: Any, inputs: Any, outputs: tuple[Tensor]) -> None:
        self.gradients = outputs[0]
