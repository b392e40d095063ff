"""Image to model input: resize, crop, and normalize."""

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
    """What the network sees of an image."""

    geometry: CropGeometry
    model_input: Tensor
    """(3, H, W), uint8, on any device."""
    image: Image.Image | None
    """The oriented image at full resolution, if an overlay will be drawn on it."""


def sample(settings: Settings) -> bytes:
    """Return a JPEG of twice the model input's size in which each color channel rises along its own direction."""
    ramp = np.linspace(0, 255, 2 * max(settings.resize_size, *settings.input_size)).astype(np.uint8)
    across, down = np.meshgrid(ramp, ramp)  # (H, W) each
    file = io.BytesIO()
    Image.fromarray(np.stack([across, down, 255 - across], axis=2)).save(file, "JPEG")  # (H, W, 3)
    return file.getvalue()


def model_input(image: Image.Image, geometry: CropGeometry, decoding: Decoding) -> Tensor:
    """Resize and crop like torchvision's antialiased `Resize` and `CenterCrop`.

    Args:
        image: RGB, oriented; of any resolution, also a reduced one.
        geometry: of the image at full resolution.
        decoding: `exact` resizes with Pillow, as torchvision does with images. `fast` resizes with torch, as
            torchvision does with tensors: faster (SIMD), and different by one gray level in a few pixels.

    Returns:
        (3, H, W), uint8.
    """
    (left, right), (top, bottom) = geometry.columns, geometry.rows
    if decoding == "fast" and geometry.downscales(image.width, image.height):
        resized = _resize_with_torch(image, geometry)
    else:
        x, y = image.width / geometry.resized_width, image.height / geometry.resized_height
        resample = Image.Resampling[geometry.interpolation.upper()]
        box = (left * x, top * y, right * x, bottom * y)
        resized = torch.from_numpy(np.array(image.resize((right - left, bottom - top), resample, box=box)))
        resized = resized.permute(2, 0, 1)  # (h, w, 3) → (3, h, w)
    x0, y0 = geometry.left - left, geometry.top - top
    return resized[:, y0 : y0 + geometry.input_height, x0 : x0 + geometry.input_width]  # (3, H, W)


def _resize_with_torch(image: Image.Image, geometry: CropGeometry) -> Tensor:
    """Return the resized image before the crop, (3, h, w), uint8."""
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)  # (height, width, 3) → (3, height, width)
    size = (geometry.resized_height, geometry.resized_width)
    return functional.interpolate(pixels[None], size, mode=geometry.interpolation, antialias=True)[0]  # (3, h, w)


@dataclass(frozen=True)
class Normalization:
    """Pixels to the network's input: scaled to [0, 1], minus the mean, divided by the standard deviation."""

    mean: tuple[float, float, float]
    """Of each channel, in [0, 1]."""
    std: tuple[float, float, float]

    @classmethod
    def of(cls, settings: Settings) -> Normalization:
        """Return the settings' normalization."""
        return cls(settings.mean, settings.std)

    def __call__(self, pixels: Tensor) -> Tensor:
        """Return uint8 pixels (B, 3, H, W) as normalized float32."""
        mean = torch.tensor(self.mean, device=pixels.device)[:, None, None]  # (3, 1, 1)
        std = torch.tensor(self.std, device=pixels.device)[:, None, None]  # (3, 1, 1)
        return pixels.float().div_(255).sub_(mean).div_(std)


def normalize(images: Tensor, settings: Settings) -> Tensor:
    """Return uint8 images (B, 3, H, W) as float32, scaled to [0, 1] and normalized with the settings' mean and std."""
    return Normalization.of(settings)(images)
