"""Bytes to picture, picture to model input, and where the one lies on the other."""

from __future__ import annotations

import io
import logging
import resource
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image, TiffImagePlugin, UnidentifiedImageError
from torch import Tensor
from torch.nn import functional

from gradcam.errors import RequestError, TooExpensive, TooLarge, UndecodableImage, UnsupportedImage
from gradcam.images import jpeg
from gradcam.settings import Decoding, Interpolation, Settings

logger = logging.getLogger(__name__)

T = TypeVar("T")

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
SUPPORTED = "send JPEG, PNG, WebP, BMP, GIF or TIFF"

# How these begin: a picture that begins so, but is not recognised, is broken.
JPEG = b"\xff\xd8\xff"
MAGIC_BYTES = (JPEG, b"\x89PNG\r\n\x1a\n", b"RIFF", b"BM", b"GIF8", b"II*\0", b"MM\0*")

# How other kinds of picture begin, so that their senders hear more than "not a picture".
OTHER_FORMATS: dict[str, tuple[int, tuple[bytes, ...]]] = {
    "AVIF": (4, (b"ftypavif", b"ftypavis")),
    "HEIC": (4, (b"ftypheic", b"ftypheix", b"ftyphevc", b"ftypmif1", b"ftypmsf1")),
    "JPEG 2000": (0, (b"\x00\x00\x00\x0cjP  ", b"\xff\x4f\xff\x51")),
    "JPEG XL": (0, (b"\x00\x00\x00\x0cJXL ", b"\xff\x0a")),
    "Photoshop": (0, (b"8BPS",)),
    "PDF": (0, (b"%PDF-",)),
    "SVG": (0, (b"<svg", b"<?xml")),
    "ICO": (0, (b"\x00\x00\x01\x00",)),
    "DICOM": (128, (b"DICM",)),
}

# A picture of 1 × 20,000 pixels, resized until its shorter side is 256, would have five million rows of which
# the crop takes 224. So many pixels are computed on either side of the crop, more than the filter reaches.
CROP_MARGIN = 4096

# A progressive JPEG has about ten scans. Each goes over all pixels, however few its bytes.
MAX_SCANS = 100

# A TIFF has a strip a row at most, or tiles. Of each the decoder starts anew, and that is not to be interrupted.
MAX_SEGMENTS = 100_000
# They may lie on one another, as blank ones do. The decoder copies each in whole.
MAX_OVERLAP = 10
TILE_BYTE_COUNTS = 325

# What decoding takes at most: measured, 17 bytes a pixel for WebP, whose canvas is there twice, 15 for a progressive
# JPEG of four inks that is turned. And the file's own bytes, some times over.
BYTES_PER_PIXEL = 24
HEADROOM_BYTES = 256 * 2**20

# Pillow's own limit: it refuses a picture of more than twice as many pixels, in places where it would have taken the
# memory before anybody could look at the size.
BOMB_FACTOR = 2

# Decoded at a half, a quarter or an eighth, a picture still has so many times the pixels a side that the network sees:
# fewer would be a resize of another kind.
REDUCED = 2

# ----------------------------------------------------------------------------- geometry


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


# ----------------------------------------------------------------------------- decoding


@dataclass(frozen=True)
class DecodedImage:
    """A decoded picture, turned as its EXIF orientation says."""

    image: Image.Image
    """RGB; smaller than the picture as sent where it was decoded at a reduced scale."""
    width: int
    """Of the picture as sent, in pixels."""
    height: int


@dataclass(frozen=True)
class PreparedInput:
    """What the network sees of a picture."""

    view: CropGeometry
    model_input: Tensor
    """(3, H, W), uint8, on any device."""
    image: Image.Image | None
    """The whole picture, where an overlay is to be drawn on it."""


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
    turn = _turn(image)
    return BaselineJpeg(plain, *_turned_size(image.size, turn), turn)


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
        with _time_limit(settings.max_decode_seconds), _memory_limit(settings):
            return _opened(data, settings, reader)
    except RequestError:
        raise
    except UnidentifiedImageError as error:
        raise _not_a_picture(data) from error
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
        _check_pixels(image, settings)
        _check_scans(image, data)
        _check_segments(image, data)
        return reader(image)


def _loaded(image: Image.Image, settings: Settings, whole: bool) -> DecodedImage:
    size = image.size
    if settings.decoding == "fast" and not whole:
        _reduce(image, settings)
    image.load()
    turn = _turn(image)
    upright = image if turn is None else image.transpose(turn)
    return DecodedImage(_to_rgb(upright), *_turned_size(size, turn))


def _reduce(image: Image.Image, settings: Settings) -> None:
    """Has a JPEG decoded at the smallest scale that is enough."""
    view = CropGeometry.of(*image.size, settings)
    side = REDUCED * max(view.resized_width, view.resized_height)  # for it may lie on its side
    image.draft(None, (side, side))


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Ends what Pillow does with a file that is made to take for ever, such as a GIF of a million empty comments.

    Only Python's main thread can be interrupted; it is where TorchServe's worker decodes.

    Raises:
        TooExpensive: the time is over.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise TooExpensive(f"the picture was not decoded in {seconds:g} s; save it anew with another program")

    previous = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


@contextmanager
def _memory_limit(settings: Settings) -> Iterator[None]:
    """Lets Pillow take no more memory than a picture of the most pixels needs.

    Some files take much more: a TIFF of one pixel may have it in a tile of 40,000 × 40,000. The limit is the process's:
    where several threads decode, there is none.

    Raises:
        MemoryError: more is asked for.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = _address_space() + BYTES_PER_PIXEL * settings.max_image_pixels + HEADROOM_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (min([limit, *(known for known in (soft, hard) if known >= 0)]), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _address_space() -> int:
    """Returns how many bytes the process has mapped."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


def _check_scans(image: Image.Image, data: bytes) -> None:
    if image.format not in ("JPEG", "MPO") or data.count(b"\xff" + jpeg.START_OF_SCAN) <= MAX_SCANS:
        return  # most pictures: these bytes are in each scan, and elsewhere
    if (scans := jpeg.scans(data)) > MAX_SCANS:
        raise UndecodableImage(f"the picture has {scans:,} scans, more than any program writes; {SUPPORTED}")


def _check_segments(image: Image.Image, data: bytes) -> None:
    tags = getattr(image, "tag_v2", {})
    segments = max(len(tags.get(tag, ())) for tag in (TiffImagePlugin.STRIPOFFSETS, TiffImagePlugin.TILEOFFSETS))
    if segments > MAX_SEGMENTS:
        raise UndecodableImage(f"the picture is in {segments:,} pieces, more than any program writes; {SUPPORTED}")
    claimed = max(sum(tags.get(tag, ())) for tag in (TiffImagePlugin.STRIPBYTECOUNTS, TILE_BYTE_COUNTS))
    if claimed > MAX_OVERLAP * len(data):
        raise UndecodableImage(
            f"the picture is truncated or corrupt (its pieces have {claimed:,} bytes, the file has {len(data):,}); "
            f"{SUPPORTED}"
        )


def _check_pixels(image: Image.Image, settings: Settings) -> None:
    pixels = image.width * image.height
    if pixels > settings.max_image_pixels:
        raise TooLarge(
            f"the picture has {image.width} × {image.height} = {pixels:,} pixels, "
            f"the limit is {settings.max_image_pixels:,}"
        )


BLACK_IS_ZERO = 1  # of TIFF's photometric interpretations

# What to do to a stored picture for each EXIF orientation. Pillow's `exif_transpose` does the same, but it
# also writes the EXIF block anew, and fails where any other entry of it is odd.
EXIF_TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
TENSOR_TRANSPOSES: dict[Image.Transpose, Callable[[Tensor], Tensor]] = {
    Image.Transpose.FLIP_LEFT_RIGHT: lambda pixels: pixels.flip(2),
    Image.Transpose.ROTATE_180: lambda pixels: pixels.flip(1, 2),
    Image.Transpose.FLIP_TOP_BOTTOM: lambda pixels: pixels.flip(1),
    Image.Transpose.TRANSPOSE: lambda pixels: pixels.transpose(1, 2),
    Image.Transpose.ROTATE_270: lambda pixels: pixels.rot90(-1, (1, 2)),
    Image.Transpose.TRANSVERSE: lambda pixels: pixels.transpose(1, 2).flip(1, 2),
    Image.Transpose.ROTATE_90: lambda pixels: pixels.rot90(1, (1, 2)),
}
SWAPS_AXES = {EXIF_TRANSPOSES[orientation] for orientation in (5, 6, 7, 8)}


def _turn(image: Image.Image) -> Image.Transpose | None:
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except RequestError:  # out of time
        raise
    except Exception as error:  # whatever a corrupt block leads Pillow into; the pixels are fine
        logger.info("unreadable EXIF: %s: %s", type(error).__name__, error)
        return None
    return EXIF_TRANSPOSES.get(orientation) if isinstance(orientation, int) else None


def _turned_size(size: tuple[int, int], turn: Image.Transpose | None) -> tuple[int, int]:
    """Returns width and height after the turn."""
    width, height = size
    return (height, width) if turn in SWAPS_AXES else (width, height)


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


def _not_a_picture(data: bytes) -> RequestError:
    if not data:
        return UndecodableImage(f"the picture is empty (0 bytes); {SUPPORTED}")
    if _is_deep_tiff(data):
        return UnsupportedImage("pictures of more than 16 bits a channel have no known range; send 8 or 16 bits")
    if data.startswith(MAGIC_BYTES):
        return UndecodableImage(f"the picture is truncated or corrupt (its header is not whole); {SUPPORTED}")
    for name, (offset, beginnings) in OTHER_FORMATS.items():
        if data[offset:].startswith(beginnings):
            return UnsupportedImage(f"{name} is not supported; {SUPPORTED}")
    return UndecodableImage(f"these {len(data):,} bytes are not a picture; {SUPPORTED}")


def _is_deep_tiff(data: bytes) -> bool:
    """Says whether it is a TIFF of more than 16 bits a channel, which Pillow does not identify."""
    try:
        directory = TiffImagePlugin.ImageFileDirectory_v2(data[:8])
        file = io.BytesIO(data)
        file.seek(directory.next)
        directory.load(file)
        return bool(max(directory.get(TiffImagePlugin.BITSPERSAMPLE, (1,))) > 16)
    except Exception:  # not a TIFF, or a broken one: whatever that leads Pillow into
        return False


def _cause(error: Exception) -> str:
    return type(error).__name__ if not isinstance(error, OSError) else str(error).split("\n")[0]


# ----------------------------------------------------------------------------- model input


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


def _computed(start: int, length: int, resized: int) -> tuple[int, int]:
    """Returns the stretch of a side of the resized picture that is computed: almost always all of it."""
    return max(0, start - CROP_MARGIN), min(resized, start + length + CROP_MARGIN)


def normalize(images: Tensor, settings: Settings) -> Tensor:
    """Returns uint8 images (B, 3, H, W) as the float32 that the network was trained on."""
    mean = torch.tensor(settings.mean, device=images.device)[:, None, None]  # (3, 1, 1)
    std = torch.tensor(settings.std, device=images.device)[:, None, None]  # (3, 1, 1)
    return images.float().div(255).sub(mean).div(std)


def pixels(image: Image.Image) -> NDArray[np.uint8]:
    """Returns the picture as (H, W, 3), RGB."""
    return np.asarray(image)
