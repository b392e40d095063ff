"""Bytes to image, within limits of time and memory."""

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
from gradcam.images.formats import FORMATS, JPEG, SUPPORTED, not_an_image
from gradcam.images.geometry import CropGeometry
from gradcam.images.limits import check_pixels, check_scans, check_segments, memory_limit, time_limit
from gradcam.images.orientation import TENSOR_TRANSPOSES, oriented_size, transpose_of
from gradcam.settings import Settings

logger = logging.getLogger(__name__)

T = TypeVar("T")

# Pillow's own limit: it refuses a picture of more than twice as many pixels, in places where it would have taken the
# memory before anybody could look at the size.
BOMB_FACTOR = 2

# Decoded at a half, a quarter or an eighth, a picture still has so many times the pixels a side that the network sees:
# fewer would be a resize of another kind.
REDUCED = 2

BLACK_IS_ZERO = 1  # of TIFF's photometric interpretations


@dataclass(frozen=True)
class DecodedImage:
    """A decoded picture, turned as its EXIF orientation says."""

    image: Image.Image
    """RGB; smaller than the picture as sent where it was decoded at a reduced scale."""
    width: int
    """Of the picture as sent, in pixels."""
    height: int


def decode(data: bytes, settings: Settings, *, whole: bool = True) -> DecodedImage:
    """Decodes a picture to RGB, turned as its EXIF orientation says.

    With `decoding: fast` a JPEG that need not be `whole` is decoded at a scale that still has twice the pixels a side
    that the network sees.

    Of an animation or a document the first frame or page is taken. Transparency is dropped, 16 bits a channel
    become the upper 8.

    Raises:
        TooLarge: more bytes or pixels than the settings allow, read from the header before decoding; or it takes
            more memory than so many pixels need.
        TooExpensive: it takes longer than the settings allow.
        UnsupportedImage: a picture of another kind.
        UndecodableImage: not a picture, or a broken one.
    """
    return _read(data, settings, lambda image: _loaded(image, settings, whole))


@dataclass(frozen=True)
class BaselineJpeg:
    """A JPEG that all decoders read alike, to be decoded by another than Pillow."""

    data: bytes
    """The file, without its orientation."""
    width: int
    """Of the picture as it is seen, in pixels."""
    height: int
    turn: Image.Transpose | None
    """What makes the picture as it is stored the one that is seen."""

    def turned(self, pixels: Tensor) -> Tensor:
        """Returns the picture as it is seen, (3, height, width), of the one that is stored, (3, h, w)."""
        return pixels if self.turn is None else TENSOR_TRANSPOSES[self.turn](pixels)


def baseline_jpeg(data: bytes, settings: Settings) -> BaselineJpeg | None:
    """Returns a JPEG whose header Pillow has read and checked.

    None of other pictures, of JPEGs out of the ordinary, and of what `decode` refuses for its header.
    """
    if not data.startswith(JPEG):
        return None  # without opening what is opened again
    try:
        return _read(data, settings, lambda image: _plain(image, data))
    except RequestError:
        return None


def _plain(image: Image.Image, data: bytes) -> BaselineJpeg | None:
    plain = jpeg.plain(data)
    if plain is None:
        return None
    turn = transpose_of(image)
    return BaselineJpeg(plain, *oriented_size(image.size, turn), turn)


def _read(data: bytes, settings: Settings, reader: Callable[[Image.Image], T]) -> T:
    """Returns what the reader makes of a picture, within the limits of bytes, pixels, time and memory."""
    if len(data) > settings.max_image_bytes:
        raise TooLarge(f"the picture has {len(data):,} bytes, the limit is {settings.max_image_bytes:,}")
    with warnings.catch_warnings():
        # Pillow's, of what is odd about a file: they may be as many as the 65,535 entries of a TIFF.
        warnings.simplefilter("ignore")
        return _limited(data, settings, reader)


def _limited(data: bytes, settings: Settings, reader: Callable[[Image.Image], T]) -> T:
    try:
        with time_limit(settings.max_decode_seconds), memory_limit(settings):
            return _opened(data, settings, reader)
    except RequestError:
        raise
    except UnidentifiedImageError as error:
        raise not_an_image(data) from error
    except Image.DecompressionBombError as error:
        most = settings.max_image_pixels
        raise TooLarge(f"the picture has more than {BOMB_FACTOR * most:,} pixels, the limit is {most:,}") from error
    except MemoryError as error:
        logger.error("no memory to decode a picture of %d bytes", len(data))
        raise TooLarge("there is no memory for a picture of so many pixels; send a smaller one") from error
    except Exception as error:
        # Pillow's decoders raise whatever hostile bytes lead them into (ValueError, struct.error, SyntaxError …).
        logger.info("undecodable picture of %d bytes: %s: %s", len(data), type(error).__name__, error)
        raise UndecodableImage(f"the picture is truncated or corrupt ({_cause(error)}); {SUPPORTED}") from error


def _opened(data: bytes, settings: Settings, reader: Callable[[Image.Image], T]) -> T:
    Image.MAX_IMAGE_PIXELS = settings.max_image_pixels
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        check_pixels(image, settings)
        check_scans(image, data)
        check_segments(image, data)
        return reader(image)


def _loaded(image: Image.Image, settings: Settings, whole: bool) -> DecodedImage:
    size = image.size
    if settings.decoding == "fast" and not whole:
        _reduce(image, settings)
    image.load()
    turn = transpose_of(image)
    upright = image if turn is None else image.transpose(turn)
    return DecodedImage(_to_rgb(upright), *oriented_size(size, turn))


def _reduce(image: Image.Image, settings: Settings) -> None:
    """Has a JPEG decoded at the smallest scale that is enough."""
    view = CropGeometry.of(*image.size, settings)
    side = REDUCED * max(view.resized_width, view.resized_height)  # for it may lie on its side
    image.draft(None, (side, side))


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("F", "I"):
        raise UnsupportedImage("pictures of 32 bits a channel have no known range; send 8 or 16 bits a channel")
    if image.mode.startswith("I;16"):
        _check_depth(image)
        # Pillow's own conversion cuts off at 255, which turns most 16-bit pictures white.
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    image.info.pop("transparency", None)  # it is dropped, and Pillow would warn of it
    return image if image.mode == "RGB" else image.convert("RGB")


def _check_depth(image: Image.Image) -> None:
    # Pillow reads 12 bits as the lower ones of 16, and does not invert 16 bits in which white is 0.
    tags = getattr(image, "tag_v2", {})
    bits = tags.get(TiffImagePlugin.BITSPERSAMPLE, (16,))
    photometric = tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION, BLACK_IS_ZERO)
    if (bits, photometric) != ((16,), BLACK_IS_ZERO):
        raise UnsupportedImage("of grey TIFFs, 8 or 16 bits in which black is 0 are supported")


def _cause(error: Exception) -> str:
    return type(error).__name__ if not isinstance(error, OSError) else str(error).split("\n")[0]
