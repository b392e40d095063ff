"""Where the model input lies on the image: resize and crop."""

from __future__ import annotations

from dataclasses import dataclass

from gradcam.settings import Interpolation, Settings

# A picture of 1 × 20,000 pixels, resized until its shorter side is 256, would have five million rows of which
# the crop takes 224. So many pixels are computed on either side of the crop, more than the filter reaches.
CROP_MARGIN = 4096


@dataclass(frozen=True)
class Region:
    """A rectangle in pixels of the picture as sent: the part of it that the network sees."""

    left: int
    top: int
    right: int
    bottom: int


@dataclass(frozen=True)
class CropGeometry:
    """How a picture of `width` × `height` becomes the model input: resized, then its middle cut out.

    `squash` resizes to the input's very size and cuts nothing off.
    """

    width: int
    height: int
    resized_width: int
    resized_height: int
    input_width: int
    input_height: int
    interpolation: Interpolation

    @classmethod
    def of(cls, width: int, height: int, settings: Settings) -> CropGeometry:
        """Returns the view that torchvision's `Resize` and `CenterCrop` make of a picture of this size."""
        input_height, input_width = settings.input_size
        if settings.transform == "squash":
            return cls(width, height, input_width, input_height, input_width, input_height, settings.interpolation)
        longer = int(settings.resize_size * max(width, height) / min(width, height))
        wide = width >= height
        return cls(
            width,
            height,
            longer if wide else settings.resize_size,
            settings.resize_size if wide else longer,
            input_width,
            input_height,
            settings.interpolation,
        )

    @property
    def left(self) -> int:
        """Left edge of the input in the resized picture; rounds as `CenterCrop` does."""
        return round((self.resized_width - self.input_width) / 2)

    @property
    def top(self) -> int:
        """Top edge of the input in the resized picture."""
        return round((self.resized_height - self.input_height) / 2)

    @property
    def columns(self) -> tuple[int, int]:
        """First column of the resized picture that is computed, and the one behind the last: almost always all."""
        return _computed(self.left, self.input_width, self.resized_width)

    @property
    def rows(self) -> tuple[int, int]:
        """First row of the resized picture that is computed, and the one behind the last."""
        return _computed(self.top, self.input_height, self.resized_height)

    @property
    def region(self) -> Region:
        """The part of the picture that the input shows."""
        x, y = self.width / self.resized_width, self.height / self.resized_height
        return Region(
            left=round(self.left * x),
            top=round(self.top * y),
            right=max(round((self.left + self.input_width) * x), round(self.left * x) + 1),
            bottom=max(round((self.top + self.input_height) * y), round(self.top * y) + 1),
        )


def _computed(start: int, length: int, resized: int) -> tuple[int, int]:
    """Returns the stretch of a side of the resized picture that is computed: almost always all of it."""
    return max(0, start - CROP_MARGIN), min(resized, start + length + CROP_MARGIN)
