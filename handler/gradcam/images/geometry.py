"""Where the model input lies on the image: resize and center crop."""

from __future__ import annotations

from dataclasses import dataclass

from gradcam.settings import Interpolation, Settings

# An image of 1 × 20,000 pixels, resized to a shorter side of 256, would have five million rows, of which the crop
# keeps 224. Only this many pixels on each side of the crop are computed: more than the resize filter reaches.
CROP_MARGIN = 4096


@dataclass(frozen=True)
class Region:
    """Rectangle that the model input covers, in pixels of the oriented image."""

    left: int
    top: int
    right: int
    bottom: int


@dataclass(frozen=True)
class CropGeometry:
    """How an image of `width` × `height` becomes the model input: a resize, then a center crop.

    `squash` resizes to the input size and crops nothing.
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
        """Return the geometry of torchvision's `Resize` and `CenterCrop` for an image of this size."""
        input_height, input_width = settings.input_size
        if settings.transform == "squash":
            return cls(width, height, input_width, input_height, input_width, input_height, settings.interpolation)
        longer = int(settings.resize_size * max(width, height) / min(width, height))
        is_wide = width >= height
        return cls(
            width,
            height,
            longer if is_wide else settings.resize_size,
            settings.resize_size if is_wide else longer,
            input_width,
            input_height,
            settings.interpolation,
        )

    @property
    def left(self) -> int:
        """Left edge of the crop in the resized image, rounded as `CenterCrop` does."""
        return round((self.resized_width - self.input_width) / 2)

    @property
    def top(self) -> int:
        """Top edge of the crop in the resized image."""
        return round((self.resized_height - self.input_height) / 2)

    @property
    def columns(self) -> tuple[int, int]:
        """Half-open range of the resized image's columns that are computed: almost always all."""
        return _with_margin(self.left, self.input_width, self.resized_width)

    @property
    def rows(self) -> tuple[int, int]:
        """Half-open range of the resized image's rows that are computed: almost always all."""
        return _with_margin(self.top, self.input_height, self.resized_height)

    @property
    def region(self) -> Region:
        """The part of the image that the model input shows."""
        x, y = self.width / self.resized_width, self.height / self.resized_height
        return Region(
            left=round(self.left * x),
            top=round(self.top * y),
            right=max(round((self.left + self.input_width) * x), round(self.left * x) + 1),
            bottom=max(round((self.top + self.input_height) * y), round(self.top * y) + 1),
        )

    def downscales(self, width: int, height: int) -> bool:
        """Return whether the resize shrinks an image stored at this size, and computes every pixel of the result.

        Other resizes are cheap, so a faster implementation gains nothing there.
        """
        is_complete = (self.columns, self.rows) == ((0, self.resized_width), (0, self.resized_height))
        return is_complete and width >= self.resized_width and height >= self.resized_height


def _with_margin(start: int, length: int, resized: int) -> tuple[int, int]:
    """Return the half-open range of a side that is computed: the crop and its margin."""
    return max(0, start - CROP_MARGIN), min(resized, start + length + CROP_MARGIN)
