"""Image to model input: resize, crop and normalization."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from gradcam.images.geometry import CropGeometry
from gradcam.settings import Decoding, Settings


@dataclass(frozen=True)
class PreparedInput:
    """What the network sees of a picture."""

    view: CropGeometry
    model_input: Tensor
    """(3, H, W), uint8, on any device."""
    image: Image.Image | None
    """The whole picture, where an overlay is to be drawn on it."""


def sample(settings: Settings) -> bytes:
    """Returns a JPEG twice as large as the network sees, in which each colour rises in a direction of its own."""
    rising = np.linspace(0, 255, 2 * max(settings.resize_size, *settings.input_size)).astype(np.uint8)
    across, down = np.meshgrid(rising, rising)
    file = io.BytesIO()
    Image.fromarray(np.stack([across, down, 255 - across], axis=2)).save(file, "JPEG")
    return file.getvalue()


def model_input(image: Image.Image, view: CropGeometry, decoding: Decoding) -> Tensor:
    """Resizes and cuts out as torchvision's antialiased `Resize` and `CenterCrop` do.

    `exact` is Pillow's resize, what these do with pictures; `fast` torch's, what they do with tensors, which uses the
    processor's wide registers and differs by a grey level in few of the pixels.

    Returns:
        (3, H, W), uint8.
    """
    (left, right), (top, bottom) = view.columns, view.rows
    if decoding == "fast" and is_reduced(image.width, image.height, view):
        resized = _resized_by_torch(image, view)
    else:
        x, y = image.width / view.resized_width, image.height / view.resized_height
        resample = Image.Resampling[view.interpolation.upper()]
        box = (left * x, top * y, right * x, bottom * y)
        resized = torch.from_numpy(np.array(image.resize((right - left, bottom - top), resample, box=box)))
        resized = resized.permute(2, 0, 1)  # (H, W, 3) → (3, H, W)
    x0, y0 = view.left - left, view.top - top
    return resized[:, y0 : y0 + view.input_height, x0 : x0 + view.input_width]


def is_reduced(width: int, height: int, view: CropGeometry) -> bool:
    """Says whether a picture of this size is resized to fewer pixels, and all of it: others cost little either way."""
    whole = (view.columns, view.rows) == ((0, view.resized_width), (0, view.resized_height))
    return whole and width >= view.resized_width and height >= view.resized_height


def _resized_by_torch(image: Image.Image, view: CropGeometry) -> Tensor:
    """Returns the whole picture resized, (3, H, W)."""
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)  # (H, W, 3) → (3, H, W)
    size = (view.resized_height, view.resized_width)
    return functional.interpolate(pixels[None], size, mode=view.interpolation, antialias=True)[0]


def normalize(images: Tensor, settings: Settings) -> Tensor:
    """Returns uint8 images (B, 3, H, W) as the float32 that the network was trained on."""
    mean = torch.tensor(settings.mean, device=images.device)[:, None, None]  # (3, 1, 1)
    std = torch.tensor(settings.std, device=images.device)[:, None, None]  # (3, 1, 1)
    return images.float().div(255).sub(mean).div(std)
