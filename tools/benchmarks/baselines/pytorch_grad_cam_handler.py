"""pytorch-grad-cam in a TorchServe handler, one batch at a time, as in its documentation."""

from __future__ import annotations

import base64
from typing import Any

import cv2
import numpy as np
import torch
from pytorch_grad_cam import GradCAM
from torch import Tensor
from ts.context import Context
from ts.torch_handler.image_classifier import ImageClassifier


class PytorchGradCam(ImageClassifier):  # type: ignore[misc]
    """The stock handler with heatmaps of the image's size, as PNG because numbers would take longer."""

    def initialize(self, context: Context) -> None:
        """Load the network as the stock handler does."""
        super().initialize(context)
        self.cam = GradCAM(self.model, target_layers=[self.model.layer4[-1].conv2])

    def inference(self, data: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Return the images: the library runs the network."""
        return data

    def postprocess(self, data: Tensor) -> list[dict[str, Any]]:
        """Explain the batch, and take the labels from the library's forward pass."""
        with torch.enable_grad():
            heatmaps = self.cam(input_tensor=data.to(self.device), targets=None)  # (B, H, W)
        labels = super().postprocess(self.cam.outputs.detach())
        return [
            {"labels": names, "heatmap": base64.b64encode(_png(heatmap)).decode()}
            for names, heatmap in zip(labels, heatmaps, strict=True)
        ]


def _png(heatmap: Any) -> bytes:
    return bytes(cv2.imencode(".png", (255 * heatmap).astype(np.uint8))[1])
