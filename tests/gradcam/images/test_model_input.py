"""The model input, compared with torchvision's own transforms."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision import transforms
from torchvision.transforms import InterpolationMode

from gradcam.images.decoding import decode
from gradcam.images.geometry import CropGeometry
from gradcam.images.model_input import model_input, normalize
from gradcam.settings import Settings
from tests.support.encoding import encoded
from tests.support.image_files import (
    SETTINGS,
    exif,
    noise,
    orientation,
    smooth,
)

CROP = dataclasses.replace(SETTINGS, transform="crop")


def torchvision_input(image: Image.Image, settings: Settings) -> Tensor:
    interpolation = InterpolationMode(settings.interpolation)
    if settings.transform == "squash":
        steps = [transforms.Resize(settings.input_size, interpolation)]
    else:
        steps = [transforms.Resize(settings.resize_size, interpolation), transforms.CenterCrop(settings.input_size)]
    tensor: Tensor = transforms.Compose([*steps, transforms.PILToTensor()])(image)
    return tensor


def our_input(image: Image.Image, settings: Settings) -> Tensor:
    return model_input(image, CropGeometry.of(image.width, image.height, settings), settings.decoding)


SIZES = [
    (1, 1),
    (2, 3),
    (224, 224),
    (223, 225),
    (256, 256),
    (257, 256),
    (256, 257),
    (37, 90),
    (500, 375),
    (375, 500),
    (1024, 683),
]

LONG_SIZES = [(1, 20_000), (20_000, 1), (3, 5000), (40, 1999)]


# Images up to these sizes are resized completely, or so far that Pillow's arithmetic is the same.
LONG_CROPS = [(100, 880), (880, 100), (113, 2001), (2001, 113), (7, 97), (97, 7), (30, 3000)]


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", SIZES + LONG_SIZES, ids=str)
def test_squash_equals_torchvision(size: tuple[int, int], interpolation: Any) -> None:
    image = Image.fromarray(noise(size[1], size[0]))
    settings = dataclasses.replace(SETTINGS, interpolation=interpolation)
    assert torch.equal(our_input(image, settings), torchvision_input(image, settings))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", SIZES + LONG_CROPS, ids=str)
def test_crop_equals_torchvision(size: tuple[int, int], interpolation: Any) -> None:
    image = Image.fromarray(noise(size[1], size[0]))
    settings = dataclasses.replace(CROP, interpolation=interpolation)
    assert torch.equal(our_input(image, settings), torchvision_input(image, settings))


@pytest.mark.parametrize("size", [(500, 375), (299, 342), (341, 800)], ids=str)
@pytest.mark.parametrize(
    ("resize_size", "input_size"), [(342, (299, 299)), (232, (224, 224)), (224, (224, 224)), (256, (192, 256))]
)
def test_crop_with_other_sizes(size: tuple[int, int], resize_size: int, input_size: tuple[int, int]) -> None:
    image = Image.fromarray(noise(size[1], size[0]))
    settings = dataclasses.replace(CROP, resize_size=resize_size, input_size=input_size)
    assert torch.equal(our_input(image, settings), torchvision_input(image, settings))


@pytest.mark.parametrize("tall", [True, False], ids=["tall", "wide"])
def test_crop_of_an_image_too_long_to_resize_completely(tall: bool) -> None:
    """1 × 20,000: pixel i of the 5,120,000 lies at (i + ½) / 256 - ½, and bilinear means between two neighbours."""
    line = noise(20_000, 1)
    image = Image.fromarray(line if tall else line.transpose(1, 0, 2))
    first = (20_000 * 256 - 224) // 2
    at = (np.arange(first, first + 224) + 0.5) / 256 - 0.5
    low = np.floor(at).astype(int)
    share = (at - low)[:, None]
    expected = (1 - share) * line[low, 0] + share * line[low + 1, 0]  # (224, 3)
    ours = our_input(image, CROP).numpy().astype(float)  # (3, 224, 224)
    ours = ours if tall else ours.transpose(0, 2, 1)
    assert np.abs(ours - expected.T[:, :, None]).max() <= 0.51
    assert np.ptp(expected) > 20


FAST = dataclasses.replace(SETTINGS, decoding="fast")


@pytest.mark.parametrize("transform", ["squash", "crop"])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", SIZES + LONG_SIZES + LONG_CROPS, ids=str)
def test_fast_input_is_within_a_few_gray_levels(size: tuple[int, int], interpolation: Any, transform: Any) -> None:
    image = Image.fromarray(noise(size[1], size[0]))
    exact = dataclasses.replace(SETTINGS, interpolation=interpolation, transform=transform)
    fast = dataclasses.replace(exact, decoding="fast")
    difference = (our_input(image, fast).int() - our_input(image, exact).int()).abs()
    # Noise is the worst case: two levels in a few pixels. In photographs the maximum is one.
    assert difference.max() <= 2
    assert (difference > 1).float().mean() < 1e-4
    assert (difference > 0).float().mean() < 0.01


def jpeg(width: int, height: int, **options: Any) -> bytes:
    return encoded(smooth(height, width), "JPEG", quality=95, **options)


@pytest.mark.parametrize(
    ("size", "settings", "decoded_size"),
    [
        ((448, 448), FAST, (448, 448)),
        ((895, 4000), FAST, (895, 4000)),  # at half scale, a side would have less than twice 224 pixels
        ((896, 1000), FAST, (448, 500)),
        ((1793, 1800), FAST, (449, 450)),
        ((4000, 3600), FAST, (500, 450)),
        # resized to 341 × 256 before the crop; at 1/4, a side would have fewer than twice 341 pixels
        ((2728, 2048), dataclasses.replace(FAST, transform="crop"), (1364, 1024)),
        ((2729, 2729), SETTINGS, (2729, 2729)),
    ],
    ids=str,
)
def test_large_jpeg_is_decoded_at_a_reduced_scale(
    size: tuple[int, int], settings: Settings, decoded_size: tuple[int, int]
) -> None:
    decoded_image = decode(jpeg(*size), settings, full_resolution=False)
    assert (decoded_image.width, decoded_image.height) == size
    assert decoded_image.image.size == decoded_size
    exact = our_input(decode(jpeg(*size), settings).image, SETTINGS)
    geometry = CropGeometry.of(*size, dataclasses.replace(settings, transform="squash"))
    ours = model_input(decoded_image.image, geometry, "fast")
    assert (ours.int() - exact.int()).abs().max() <= 3


def test_reduced_image_whose_sides_are_swapped() -> None:
    decoded_image = decode(jpeg(1000, 1200, exif=exif(orientation(6))), FAST, full_resolution=False)
    assert (decoded_image.width, decoded_image.height, *decoded_image.image.size) == (1200, 1000, 600, 500)


@pytest.mark.parametrize("data", [jpeg(2000, 2000), encoded(smooth(2000, 2000), "PNG")], ids=["whole", "png"])
def test_scale_is_not_reduced_for_overlays_and_other_formats(data: bytes) -> None:
    """An overlay needs full resolution; a PNG has no reduced scales."""
    png = data.startswith(b"\x89PNG")
    assert decode(data, FAST, full_resolution=not png).image.size == (2000, 2000)


def test_input_depends_only_on_pixels_in_the_region() -> None:
    """Changes outside the region affect the input only within the reach of the resize filter."""
    image = noise(600, 900)
    region = CropGeometry.of(900, 600, CROP).region
    inside = np.zeros_like(image)
    inside[region.top : region.bottom, region.left : region.right] = image[
        region.top : region.bottom, region.left : region.right
    ]
    full, inside_only = (our_input(Image.fromarray(pixels), CROP) for pixels in (image, inside))
    assert torch.equal(full[:, 3:-3, 3:-3], inside_only[:, 3:-3, 3:-3])


@pytest.mark.parametrize("settings", [SETTINGS, CROP], ids=["squash", "crop"])
def test_normalized_input_equals_torchvision(settings: Settings) -> None:
    image = Image.fromarray(noise(300, 400))
    ours = normalize(our_input(image, settings)[None], settings)
    resize = transforms.Resize((224, 224)) if settings is SETTINGS else transforms.Resize(256)
    theirs = transforms.Compose(
        [resize, transforms.CenterCrop(224), transforms.ToTensor(), transforms.Normalize(settings.mean, settings.std)]
    )(image)
    assert ours.dtype == torch.float32
    assert torch.equal(ours[0], theirs)


def test_every_byte_value_is_normalized_like_torchvision() -> None:
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    pixels = np.stack([values] * 3, axis=-1)
    theirs = transforms.Compose([transforms.ToTensor(), transforms.Normalize(SETTINGS.mean, SETTINGS.std)])(pixels)
    ours = normalize(torch.from_numpy(pixels).permute(2, 0, 1)[None], SETTINGS)
    assert torch.equal(ours[0], theirs)
