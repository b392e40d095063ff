"""Images of a folder, prepared for the network: to calibrate int8, and to compare a precision with float32."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from gradcam.errors import RequestError
from gradcam.images import decoding
from gradcam.images.geometry import CropGeometry
from gradcam.images.model_input import model_input, normalize
from gradcam.settings import Settings

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
# The 5th percentile needs 20 held-back images to be more than the minimum.
MIN_IMAGES = 100
# More take time and memory, and change the ranges of activations little.
MAX_IMAGES = 1000
# One of this many images is held back.
PERIOD = 5


class CalibrationError(ValueError):
    """A folder of images that cannot be used, or a precision that deviates too much; the message says what helps."""


@dataclass(frozen=True)
class CalibrationSet:
    """Normalized images."""

    calibration: Tensor
    """(N, 3, H, W)."""
    held_back: Tensor
    """(M, 3, H, W), none of the N."""
    sha256: str
    """SHA-256 of the digests of all files, in the order of the digests."""


def load(folder: Path, settings: Settings) -> CalibrationSet:
    """Load the images of a folder and its subfolders, each once, in an order that only their content decides.

    Args:
        folder: with images; files with other suffixes are ignored.
        settings: say how to prepare images.

    Raises:
        CalibrationError: there are too few images, or one cannot be decoded.
    """
    files = _files(folder)
    if len(files) < MIN_IMAGES:
        raise CalibrationError(
            f"--calibration needs at least {MIN_IMAGES} different images, better 300, like those to be served; "
            f"{folder} has {len(files)}"
        )
    digests = sorted(files)[:MAX_IMAGES]
    images = torch.stack([_prepared(files[digest], settings) for digest in digests])  # (N + M, 3, H, W)
    normalized = normalize(images, settings)
    held_back = torch.arange(len(images)) % PERIOD == PERIOD - 1
    together = hashlib.sha256("".join(digests).encode()).hexdigest()
    return CalibrationSet(normalized[~held_back], normalized[held_back], together)


def _files(folder: Path) -> dict[str, Path]:
    """Return the image files below a folder by their SHA-256.

    Raises:
        CalibrationError: there is no such folder.
    """
    if not folder.is_dir():
        raise CalibrationError(f"--calibration must be a folder of images, got {folder}")
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    return {hashlib.sha256(path.read_bytes()).hexdigest(): path for path in paths}


def _prepared(path: Path, settings: Settings) -> Tensor:
    """Return an image as the server prepares it, (3, H, W), uint8."""
    try:
        decoded = decoding.decode(path.read_bytes(), settings, full_resolution=False)
    except RequestError as error:
        raise CalibrationError(f"--calibration: {path} cannot be used: {error}") from error
    geometry = CropGeometry.of(decoded.width, decoded.height, settings)
    return model_input(decoded.image, geometry, settings.decoding)
