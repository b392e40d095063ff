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


# Up to these a picture is resized whole, or so much of it that Pillow's arithmetic stays the same.
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
def test_crop_of_a_picture_too_long_to_resize_whole(tall: bool) -> None:
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
def test_fast_input_is_within_a_grey_level(size: tuple[int, int], interpolation: Any, transform: Any) -> None:
    image = Image.fromarray(noise(size[1], size[0]))
    exact = dataclasses.replace(SETTINGS, interpolation=interpolation, transform=transform)
    fast = dataclasses.replace(exact, decoding="fast")
    off = (our_input(image, fast).int() - our_input(image, exact).int()).abs()
    # Noise is the worst of pictures: two levels in a pixel or two. In photographs it is one.
    assert off.max() <= 2
    assert (off > 1).float().mean() < 1e-4
    assert (off > 0).float().mean() < 0.01


def jpeg(width: int, height: int, **options: Any) -> bytes:
    return encoded(smooth(height, width), "JPEG", quality=95, **options)


@pytest.mark.parametrize(
    ("sent", "settings", "read"),
    [
        ((448, 448), FAST, (448, 448)),
        ((895, 4000), FAST, (895, 4000)),  # halved, a side would be less than twice 224
        ((896, 1000), FAST, (448, 500)),
        ((1793, 1800), FAST, (449, 450)),
        ((4000, 3600), FAST, (500, 450)),
        # resized to 341 × 256 before its middle is cut out: twice 341 is more than an eighth, or a quarter, has
        ((2728, 2048), dataclasses.replace(FAST, transform="crop"), (1364, 1024)),
        ((2729, 2729), SETTINGS, (2729, 2729)),
    ],
    ids=str,
)
def test_large_jpegs_are_read_at_a_reduced_scale(
    sent: tuple[int, int], settings: Settings, read: tuple[int, int]
) -> None:
    picture = decode(jpeg(*sent), settings, full_resolution=False)
    assert (picture.width, picture.height) == sent
    assert picture.image.size == read
    exact = our_input(decode(jpeg(*sent), settings).image, SETTINGS)
    view = CropGeometry.of(*sent, dataclasses.replace(settings, transform="squash"))
    ours = model_input(picture.image, view, "fast")
    assert (ours.int() - exact.int()).abs().max() <= 3


def test_a_reduced_picture_that_lies_on_its_side() -> None:
    picture = decode(jpeg(1000, 1200, exif=exif(orientation(6))), FAST, full_resolution=False)
    assert (picture.width, picture.height, *picture.image.size) == (1200, 1000, 600, 500)


@pytest.mark.parametrize("data", [jpeg(2000, 2000), encoded(smooth(2000, 2000), "PNG")], ids=["whole", "png"])
def test_what_is_not_reduced(data: bytes) -> None:
    """A picture for an overlay, and what is no JPEG."""
    png = data.startswith(b"\x89PNG")
    assert decode(data, FAST, full_resolution=not png).image.size == (2000, 2000)


def test_region_shows_what_the_input_shows() -> None:
    """Outside of the region a picture may change as it likes: but for the filter's reach, the input stays."""
    image = noise(600, 900)
    region = CropGeometry.of(900, 600, CROP).region
    inside = np.zeros_like(image)
    inside[region.top : region.bottom, region.left : region.right] = image[
        region.top : region.bottom, region.left : region.right
    ]
    whole, cut = (our_input(Image.fromarray(pixels), CROP) for pixels in (image, inside))
    assert torch.equal(whole[:, 3:-3, 3:-3], cut[:, 3:-3, 3:-3])


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


def test_every_byte_is_normalized_as_by_torchvision() -> None:
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    pixels = np.stack([values] * 3, axis=-1)
    theirs = transforms.Compose([transforms.ToTensor(), transforms.Normalize(SETTINGS.mean, SETTINGS.std)])(pixels)
    ours = normalize(torch.from_numpy(pixels).permute(2, 0, 1)[None], SETTINGS)
    assert torch.equal(ours[0], theirs)
