"""Bytes to an RGB image, within limits of bytes, pixels, time, and memory."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from PIL import Image, TiffImagePlugin, UnidentifiedImageError
from torch import Tensor

from gradcam.errors import RequestError, TooLarge, UndecodableImage, UnsupportedImage
from gradcam.images import jpeg
from gradcam.images.formats import FORMATS, JPEG, SUPPORTED, unidentified_error
from gradcam.images.geometry import CropGeometry
from gradcam.images.limits import check_pixels, check_scans, check_segments, memory_limit, time_limit
from gradcam.images.orientation import TENSOR_TRANSPOSES, exif_transpose, oriented_size
from gradcam.images.pixels import RawPixels
from gradcam.settings import Settings

logger = logging.getLogger(__name__)

T = TypeVar("T")

# Pillow raises DecompressionBombError above this multiple of `Image.MAX_IMAGE_PIXELS`, also in places where it would
# allocate the memory before its caller could see the size.
BOMB_FACTOR = 2

# An image that is decoded at a reduced scale (1/2, 1/4, or 1/8) keeps at least this many times the pixels per side
# that the network sees. Fewer would make the result differ visibly from a resize of the full image.
DRAFT_OVERSAMPLING = 2

BLACK_IS_ZERO = 1  # value of TIFF's PhotometricInterpretation


@dataclass(frozen=True)
class DecodedImage:
    """A decoded image with its EXIF orientation applied."""

    image: Image.Image
    """RGB; smaller than `width` × `height` if it was decoded at a reduced scale."""
    width: int
    """Full width of the oriented image, in pixels."""
    height: int


@dataclass(frozen=True)
class BaselineJpeg:
    """A JPEG that all decoders read alike, for a decoder other than Pillow."""

    data: bytes
    """The file with its EXIF blocks blanked."""
    width: int
    """Width of the oriented image, in pixels."""
    height: int
    transpose: Image.Transpose | None
    """Orients the stored image."""

    def orient(self, pixels: Tensor) -> Tensor:
        """Return the oriented image (3, height, width) from the stored one (3, h, w)."""
        return pixels if self.transpose is None else TENSOR_TRANSPOSES[self.transpose](pixels)


def decode(data: bytes | RawPixels, settings: Settings, *, full_resolution: bool = True) -> DecodedImage:
    """Decode an image to RGB and apply its EXIF orientation.

    Animations and documents are reduced to their first frame or page. Transparency is dropped. 16 bits per channel
    are reduced to the upper 8.

    Args:
        data: the file, or raw pixels, of which only the number is checked.
        settings: the limits. With `decoding: fast`, a JPEG may be decoded at a reduced scale that keeps twice the
            pixels per side that the network sees.
        full_resolution: never reduce the scale.

    Raises:
        TooLarge: the file has more bytes or pixels than the settings allow (read from the header before decoding),
            or decoding needs more memory than an image of the maximum size.
        TooExpensive: decoding takes longer than the settings allow.
        UnsupportedImage: the format or pixel type is not supported.
        UndecodableImage: the file is not an image, or is corrupt.
    """
    if isinstance(data, RawPixels):
        check_pixels(data.width, data.height, settings)
        size = (data.width, data.height)
        return DecodedImage(Image.frombytes("RGB", size, data.data), *size)
    return _open_and_apply(data, settings, lambda image: _load(image, settings, full_resolution))


def baseline_jpeg(data: bytes, settings: Settings) -> BaselineJpeg | None:
    """Return the file as a baseline JPEG after Pillow has read and checked its header.

    None for other formats, for JPEGs that decoders may read differently, and for files whose header `decode` rejects.
    """
    if not data.startswith(JPEG):
        return None  # `decode` opens this file later; opening it here as well would cost time
    try:
        return _open_and_apply(data, settings, lambda image: _as_baseline(image, data))
    except RequestError:
        return None


def _as_baseline(image: Image.Image, data: bytes) -> BaselineJpeg | None:
    blanked = jpeg.as_baseline(data)
    if blanked is None:
        return None
    transpose = exif_transpose(image)
    return BaselineJpeg(blanked, *oriented_size(image.size, transpose), transpose)


def _open_and_apply(data: bytes, settings: Settings, reader: Callable[[Image.Image], T]) -> T:
    """Open an image and return `reader(image)`, all within the limits."""
    if len(data) > settings.max_image_bytes:
        raise TooLarge(f"Image has {len(data):,} bytes, the limit is {settings.max_image_bytes:,}")
    with warnings.catch_warnings():
        # Pillow warns about each malformed entry of a file; a TIFF may have 65,535 of them.
        warnings.simplefilter("ignore")
        return _translate_errors(data, settings, reader)


def _translate_errors(data: bytes, settings: Settings, reader: Callable[[Image.Image], T]) -> T:
    try:
        with time_limit(settings.max_decode_seconds), memory_limit(settings):
            return _open(data, settings, reader)
    except RequestError:
        raise
    except UnidentifiedImageError as error:
        raise unidentified_error(data) from error
    except Image.DecompressionBombError as error:
        limit = settings.max_image_pixels
        raise TooLarge(f"Image has more than {BOMB_FACTOR * limit:,} pixels, the limit is {limit:,}") from error
    except MemoryError as error:
        logger.error("out of memory while decoding an image of %d bytes", len(data))
        raise TooLarge("Image needs more memory than its decoding may use; send a smaller image") from error
    except Exception as error:
        # Pillow's decoders may raise anything on hostile bytes (ValueError, struct.error, SyntaxError …).
        logger.info("undecodable image of %d bytes: %s: %s", len(data), type(error).__name__, error)
        raise UndecodableImage(f"Image is truncated or corrupt ({_cause(error)}); {SUPPORTED}") from error


def _open(data: bytes, settings: Settings, reader: Callable[[Image.Image], T]) -> T:
    Image.MAX_IMAGE_PIXELS = settings.max_image_pixels
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        check_pixels(image.width, image.height, settings)
        check_scans(image, data)
        check_segments(image, data)
        return reader(image)


def _load(image: Image.Image, settings: Settings, full_resolution: bool) -> DecodedImage:
    size = image.size
    if settings.decoding == "fast" and not full_resolution:
        _reduce_scale(image, settings)
    image.load()
    transpose = exif_transpose(image)
    oriented = image if transpose is None else image.transpose(transpose)
    return DecodedImage(_to_rgb(oriented), *oriented_size(size, transpose))


def _reduce_scale(image: Image.Image, settings: Settings) -> None:
    """Let Pillow decode a JPEG at the smallest scale that suffices."""
    geometry = CropGeometry.of(*image.size, settings)
    # The same for both sides, because the image may still need a transpose that swaps them.
    side = DRAFT_OVERSAMPLING * max(geometry.resized_width, geometry.resized_height)
    image.draft(None, (side, side))


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("F", "I"):
        raise UnsupportedImage("Image has 32 bits per channel, whose range is unknown; send 8 or 16 bits per channel")
    if image.mode.startswith("I;16"):
        _check_grayscale_tiff(image)
        # Pillow's own conversion clips at 255, which turns most 16-bit images white.
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    image.info.pop("transparency", None)  # transparency is dropped; Pillow would warn about it
    return image if image.mode == "RGB" else image.convert("RGB")


def _check_grayscale_tiff(image: Image.Image) -> None:
    # Pillow reads 12 bits as the lower 12 of 16, and does not invert 16-bit images that store white as 0.
    tags = getattr(image, "tag_v2", {})
    bits = tags.get(TiffImagePlugin.BITSPERSAMPLE, (16,))
    photometric = tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION, BLACK_IS_ZERO)
    if (bits, photometric) != ((16,), BLACK_IS_ZERO):
        polarity = "black" if photometric == BLACK_IS_ZERO else "white"
        raise UnsupportedImage(
            f"Grayscale TIFF must have 8 or 16 bits per channel and store black as 0, "
            f"got {bits[0]} bits with {polarity} as 0"
        )


def _cause(error: Exception) -> str:
    return type(error).__name__ if not isinstance(error, OSError) else str(error).split("\n")[0]
