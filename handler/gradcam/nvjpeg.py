"""JPEGs decoded and resized on a GPU, a batch at once, where `decoding` is `fast`.

Pillow has read the header of each, and checked it. What is out of the ordinary, what nvJPEG cannot decode, and what is
broken is left to Pillow, which says what is wrong with it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from gradcam import images
from gradcam.images import Seen, View
from gradcam.settings import Settings

logger = logging.getLogger(__name__)

# Of pictures that are decoded at once. A pixel takes 3 bytes, and 12 more while its picture is resized.
MOST_PIXELS = 32_000_000

# Decoders differ in how they enlarge a JPEG's colours; in a picture without edges by a grey level or two.
ALIKE = 4


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
        data = images.sample(settings)
        if (ours := decoder.decode({0: data}).get(0)) is None:
            logger.warning("JPEGs are decoded on the CPU: nvJPEG does not work here")
            return None
        theirs = images.model_input(images.decode(data, settings).image, ours.view, "exact")
        if (off := int((ours.model_input.cpu().int() - theirs.int()).abs().max())) > ALIKE:
            logger.warning("JPEGs are decoded on the CPU: nvJPEG is %d grey levels off", off)
            return None
        return decoder

    def decode(self, pictures: Mapping[int, bytes]) -> dict[int, Seen]:
        """Decodes what can be decoded here.

        Args:
            pictures: any files, by row.

        Returns:
            By row, what the network sees, on the device.
        """
        views = {row: view for row, data in pictures.items() if (view := self._view(data)) is not None}
        seen: dict[int, Seen] = {}
        for rows in _together(views):
            seen |= self._decoded({row: pictures[row] for row in rows}, views)
        return seen

    def _view(self, data: bytes) -> View | None:
        """Returns how the network sees a picture that is decoded here."""
        size = images.plain_jpeg(data, self.settings)
        if size is None or size[0] * size[1] > MOST_PIXELS:
            return None
        view = View.of(*size, self.settings)
        return view if images.is_reduced(*size, view) else None

    def _decoded(self, jpegs: Mapping[int, bytes], views: Mapping[int, View]) -> dict[int, Seen]:
        try:
            decoded = self.decode_jpeg(list(jpegs.values()), mode="RGB", device=self.device)
            return {
                row: Seen(views[row], _resized(pixels, views[row]), image=None)
                for row, pixels in zip(jpegs, decoded, strict=True)
                if pixels.shape[1:] == (views[row].height, views[row].width)  # turned as Pillow would
            }
        except RuntimeError as error:  # a file that nvJPEG cannot decode, or no memory; the message says of none which
            if len(jpegs) == 1:
                logger.info("a JPEG is left to Pillow: %s", error)
                return {}
            return {key: seen for row in jpegs for key, seen in self._decoded({row: jpegs[row]}, views).items()}


def _together(views: Mapping[int, View]) -> Iterator[list[int]]:
    """Yields rows of pictures that are decoded at once."""
    rows: list[int] = []
    pixels = 0
    for row, view in views.items():
        pixels += view.width * view.height
        if rows and pixels > MOST_PIXELS:
            yield rows
            rows, pixels = [], view.width * view.height
        rows.append(row)
    if rows:
        yield rows


def _resized(pixels: Tensor, view: View) -> Tensor:
    """Returns the model input (3, H, W) of a picture (3, h, w), both uint8; as torchvision does on a GPU."""
    size = (view.resized_height, view.resized_width)
    resized = functional.interpolate(pixels[None].float(), size, mode=view.interpolation, antialias=True)[0]
    seen = resized[:, view.top : view.top + view.input_height, view.left : view.left + view.input_width]
    return seen.round().clamp(0, 255).to(torch.uint8)
