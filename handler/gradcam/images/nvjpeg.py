"""JPEGs decoded and resized on a GPU, a batch at once, where `decoding` is `fast`.

Pillow has read the header of each, checked it, and said how the picture is turned. What is out of the ordinary, and
what cannot be decoded here, is left to Pillow, which says what is wrong with it.
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
from gradcam.images.model_input import PreparedInput, is_reduced, model_input, sample
from gradcam.settings import Settings

logger = logging.getLogger(__name__)

# Of pictures that are decoded at once. A pixel takes 3 bytes, and 12 more while its picture is resized.
MOST_PIXELS = 32_000_000

# Grey levels that a test picture may be off. Decoders differ in how they enlarge a JPEG's colours, and it has no edges.
MAX_LEVEL_DIFFERENCE = 4


@dataclass(frozen=True)
class Decoder:
    """TorchCodec's JPEG decoder on one device: nvJPEG on a GPU."""

    settings: Settings
    device: torch.device
    decode_jpeg: Callable[..., list[Tensor]]

    @classmethod
    def load(cls, settings: Settings, device: torch.device) -> Decoder | None:
        """Returns a decoder that gives what Pillow gives; None, and why in the log, where there is none."""
        try:
            from torchcodec.decoders import decode_jpeg  # noqa: PLC0415  an optional package, for GPUs
        except (ImportError, OSError, RuntimeError) as error:
            logger.warning("JPEGs are decoded on the CPU: %s; pip install torchcodec", error)
            return None
        decoder = cls(settings, device, decode_jpeg)
        data = sample(settings)
        if (ours := decoder.decode({0: data}, math.inf).get(0)) is None:
            logger.warning("JPEGs are decoded on the CPU: nvJPEG does not work here")
            return None
        theirs = model_input(decode(data, settings).image, ours.view, "exact")
        if (off := int((ours.model_input.cpu().int() - theirs.int()).abs().max())) > MAX_LEVEL_DIFFERENCE:
            logger.warning("JPEGs are decoded on the CPU: nvJPEG is %d grey levels off", off)
            return None
        return decoder

    def decode(self, pictures: Mapping[int, bytes], until: float) -> dict[int, PreparedInput]:
        """Decodes what can be decoded here.

        Args:
            pictures: any files, by row, the cheapest first.
            until: when to look at no more of them, on the clock `time.monotonic`.

        Returns:
            By row, what the network sees, on the device.
        """
        jpegs: dict[int, BaselineJpeg] = {}
        for row, data in pictures.items():
            if time.monotonic() <= until and (jpeg := self._jpeg(data)) is not None:
                jpegs[row] = jpeg
        seen: dict[int, PreparedInput] = {}
        for rows in _groups(jpegs):
            for row, pixels in self._decoded({row: jpegs[row] for row in rows}, until).items():
                if (resized := self._seen(jpegs[row], pixels)) is not None:
                    seen[row] = resized
        return seen

    def _jpeg(self, data: bytes) -> BaselineJpeg | None:
        """Returns a file that is to be decoded here."""
        jpeg = baseline_jpeg(data, self.settings)
        if jpeg is None or jpeg.width * jpeg.height > MOST_PIXELS:
            return None
        view = CropGeometry.of(jpeg.width, jpeg.height, self.settings)
        return jpeg if is_reduced(jpeg.width, jpeg.height, view) else None

    def _decoded(self, jpegs: Mapping[int, BaselineJpeg], until: float) -> dict[int, Tensor]:
        """Returns the pictures as they are stored, (3, h, w), uint8; none that cannot be decoded."""
        try:
            decoded = self.decode_jpeg([jpeg.data for jpeg in jpegs.values()], mode="RGB", device=self.device)
            return dict(zip(jpegs, decoded, strict=True))
        except RuntimeError as error:  # does not say which file it was
            logger.warning("%d JPEGs together: %s", len(jpegs), error)
        if len(jpegs) == 1 or time.monotonic() > until:
            return {}
        alone = (self._decoded({row: jpeg}, until) for row, jpeg in jpegs.items())
        return {row: pixels for decoded in alone for row, pixels in decoded.items()}

    def _seen(self, jpeg: BaselineJpeg, stored: Tensor) -> PreparedInput | None:
        view = CropGeometry.of(jpeg.width, jpeg.height, self.settings)
        pixels = jpeg.turned(stored)
        if pixels.shape != (3, jpeg.height, jpeg.width):
            logger.warning("a JPEG of %d × %d was decoded to %s", jpeg.width, jpeg.height, tuple(pixels.shape))
            return None
        try:
            return PreparedInput(view, _resized(pixels, view), image=None)
        except RuntimeError as error:  # no memory on the device, or too long and thin a picture
            logger.warning("a picture of %d × %d: %s", jpeg.width, jpeg.height, error)
            return None


def _groups(jpegs: Mapping[int, BaselineJpeg]) -> Iterator[list[int]]:
    """Yields rows of pictures that are decoded at once."""
    rows: list[int] = []
    pixels = 0
    for row, jpeg in jpegs.items():
        pixels += jpeg.width * jpeg.height
        if rows and pixels > MOST_PIXELS:
            yield rows
            rows, pixels = [], jpeg.width * jpeg.height
        rows.append(row)
    if rows:
        yield rows


def _resized(pixels: Tensor, view: CropGeometry) -> Tensor:
    """Returns the model input (3, H, W) of a picture (3, h, w), both uint8; as torchvision does on a GPU."""
    size = (view.resized_height, view.resized_width)
    resized = functional.interpolate(pixels[None].float(), size, mode=view.interpolation, antialias=True)[0]
    seen = resized[:, view.top : view.top + view.input_height, view.left : view.left + view.input_width]
    return seen.round().clamp(0, 255).to(torch.uint8)
