"""JPEG decoding and resizing on a GPU, a batch at a time, for `decoding: fast`.

Pillow has already read and checked each header and its EXIF orientation. Files that are unusual or that fail here are
left to Pillow, which reports what is wrong with them.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from gradcam.images.decoding import BaselineJpeg, baseline_jpeg, decode
from gradcam.images.geometry import CropGeometry
from gradcam.images.model_input import PreparedInput, model_input, sample
from gradcam.settings import Settings

logger = logging.getLogger(__name__)

# Maximum total pixels of images that are decoded together. A pixel takes 3 bytes, and 12 more during the resize.
MAX_GROUP_PIXELS = 32_000_000

# Maximum difference from Pillow on a test image, in gray levels. Decoders upsample chroma differently; the test image
# has no edges, where they differ most.
MAX_LEVEL_DIFFERENCE = 4


@dataclass(frozen=True)
class Decoder:
    """TorchCodec's JPEG decoder on one device: nvJPEG on a GPU."""

    settings: Settings
    device: torch.device
    decode_jpeg: Callable[..., list[Tensor]]

    @classmethod
    def load(cls, settings: Settings, device: torch.device) -> Decoder | None:
        """Return a decoder whose results match Pillow's; None, with the reason in the log, if there is none."""
        try:
            from torchcodec.decoders import decode_jpeg  # noqa: PLC0415  an optional package, for GPUs
        except (ImportError, OSError, RuntimeError) as error:
            logger.warning("JPEGs are decoded on the CPU: %s; pip install torchcodec", error)
            return None
        decoder = cls(settings, device, decode_jpeg)
        data = sample(settings)
        if (ours := decoder.decode({0: data}, math.inf).get(0)) is None:
            logger.warning("JPEGs are decoded on the CPU: nvJPEG failed on a test image")
            return None
        expected = model_input(decode(data, settings).image, ours.geometry, "exact")
        difference = int((ours.model_input.cpu().int() - expected.int()).abs().max())
        if difference > MAX_LEVEL_DIFFERENCE:
            logger.warning("JPEGs are decoded on the CPU: nvJPEG differs from Pillow by %d gray levels", difference)
            return None
        return decoder

    def decode(self, files: Mapping[int, bytes], deadline: float) -> dict[int, PreparedInput]:
        """Decode those files that can be decoded on the device.

        Args:
            files: files of any format by row, the cheapest first.
            deadline: when to stop, on the clock `time.monotonic`.

        Returns:
            Prepared inputs by row, on the device.
        """
        jpegs: dict[int, BaselineJpeg] = {}
        for row, data in files.items():
            if time.monotonic() <= deadline and (jpeg := self._suitable_jpeg(data)) is not None:
                jpegs[row] = jpeg
        prepared: dict[int, PreparedInput] = {}
        for rows in _groups(jpegs):
            for row, pixels in self._decode_group({row: jpegs[row] for row in rows}, deadline).items():
                if (resized := self._prepare(jpegs[row], pixels)) is not None:
                    prepared[row] = resized
        return prepared

    def _suitable_jpeg(self, data: bytes) -> BaselineJpeg | None:
        """Return the file as a baseline JPEG if decoding it here is possible and worthwhile."""
        jpeg = baseline_jpeg(data, self.settings)
        if jpeg is None or jpeg.width * jpeg.height > MAX_GROUP_PIXELS:
            return None
        geometry = CropGeometry.of(jpeg.width, jpeg.height, self.settings)
        return jpeg if geometry.downscales(jpeg.width, jpeg.height) else None

    def _decode_group(self, jpegs: Mapping[int, BaselineJpeg], deadline: float) -> dict[int, Tensor]:
        """Return the stored images, (3, h, w), uint8, without those that cannot be decoded."""
        try:
            decoded = self.decode_jpeg([jpeg.data for jpeg in jpegs.values()], mode="RGB", device=self.device)
            return dict(zip(jpegs, decoded, strict=True))
        except RuntimeError as error:  # does not say which file failed
            logger.warning("cannot decode a group of %d JPEGs: %s", len(jpegs), error)
        if len(jpegs) == 1 or time.monotonic() > deadline:
            return {}
        one_by_one = (self._decode_group({row: jpeg}, deadline) for row, jpeg in jpegs.items())
        return {row: pixels for decoded in one_by_one for row, pixels in decoded.items()}

    def _prepare(self, jpeg: BaselineJpeg, stored: Tensor) -> PreparedInput | None:
        geometry = CropGeometry.of(jpeg.width, jpeg.height, self.settings)
        pixels = jpeg.orient(stored)  # (3, h, w) → (3, height, width)
        if pixels.shape != (3, jpeg.height, jpeg.width):
            logger.warning("a JPEG of %d × %d was decoded to %s", jpeg.width, jpeg.height, tuple(pixels.shape))
            return None
        try:
            return PreparedInput(geometry, _resize_and_crop(pixels, geometry), image=None)
        except RuntimeError as error:  # out of device memory, or extreme proportions
            logger.warning("cannot resize an image of %d × %d: %s", jpeg.width, jpeg.height, error)
            return None


def _groups(jpegs: Mapping[int, BaselineJpeg]) -> Iterator[list[int]]:
    """Yield groups of rows whose images are decoded together."""
    rows: list[int] = []
    pixels = 0
    for row, jpeg in jpegs.items():
        pixels += jpeg.width * jpeg.height
        if rows and pixels > MAX_GROUP_PIXELS:
            yield rows
            rows, pixels = [], jpeg.width * jpeg.height
        rows.append(row)
    if rows:
        yield rows


def _resize_and_crop(pixels: Tensor, geometry: CropGeometry) -> Tensor:
    """Return the model input (3, H, W) of an image (3, height, width), both uint8, as torchvision does on a GPU."""
    size = (geometry.resized_height, geometry.resized_width)
    resized = functional.interpolate(pixels[None].float(), size, mode=geometry.interpolation, antialias=True)[0]
    rows = slice(geometry.top, geometry.top + geometry.input_height)
    columns = slice(geometry.left, geometry.left + geometry.input_width)
    return resized[:, rows, columns].round().clamp(0, 255).to(torch.uint8)  # (3, h, w) → (3, H, W)
