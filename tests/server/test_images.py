"""Every image format over HTTP, compared with the tutorial on the pixels that were encoded."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.support.encoding import Pixels, decoded, encoded
from tests.support.served import Call, Model, check, check_overlay, from_data_url, parsed, sample
from tools.paths import ROOT

RGB = sample(1)
OTHER = sample(2)
ALPHA = sample(3)[:, :, 0]
GRAY = sample(4)[:, :, 0]
GRAY_AS_RGB = np.repeat(GRAY[:, :, None], 3, axis=2)
# Both bytes vary, so clipping at 255 or reading the low byte would change the result.
DEEP: NDArray[np.uint16] = (GRAY.astype(np.uint16) << np.uint16(8)) + sample(5)[:, :, 1]
DEEP_RGB: NDArray[np.uint16] = (RGB.astype(np.uint16) << np.uint16(8)) + sample(6)
BLACK_AND_WHITE: Pixels = np.where(GRAY > 120, 255, 0).astype(np.uint8)

# Stored pixels as a function of the upright pixels, by EXIF orientation.
STORED: dict[int, Callable[[Pixels], Pixels]] = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.transpose(1, 0, 2),
    6: np.rot90,
    7: lambda upright: upright.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda upright: np.rot90(upright, -1),
}


def with_alpha(colors: Pixels) -> Image.Image:
    mode = {2: "LA", 3: "RGBA"}[colors.ndim]
    return Image.merge(mode, [*Image.fromarray(colors).split(), Image.fromarray(ALPHA)])


def palette() -> Image.Image:
    return Image.fromarray(RGB).quantize(64)


def cmyk() -> Image.Image:
    return Image.merge("CMYK", [Image.fromarray(channel) for channel in (*np.moveaxis(OTHER, 2, 0), ALPHA // 2)])


def cmyk_as_rgb() -> Pixels:
    """Return the CMYK image as RGB, with Pillow's integer rounding."""
    colors, black = OTHER.astype(np.int64), 255 - ALPHA[:, :, None].astype(np.int64) // 2
    product = colors * black + 128
    return (black - ((product >> 8) + product >> 8)).clip(0, 255).astype(np.uint8)


def oriented(kind: str, orientation: int, **options: object) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(np.ascontiguousarray(STORED[orientation](RGB)), kind, exif=exif.tobytes(), **options)


def with_opencv(kind: str, pixels: NDArray[np.uint16]) -> bytes:
    """Encode RGB with 16 bits per channel, which Pillow does not support."""
    success, data = cv2.imencode(kind, pixels[:, :, ::-1])
    assert success
    return data.tobytes()


def frames(kind: str, **options: object) -> bytes:
    first, second = Image.fromarray(RGB).quantize(64), Image.fromarray(OTHER).quantize(64)
    return encoded(first, kind, save_all=True, append_images=[second], **options)


def lossless() -> Iterator[tuple[str, bytes, Pixels]]:
    """Yield images whose pixels are known without decoding."""
    from_palette = np.asarray(palette().convert("RGB"))
    yield "png rgb", encoded(RGB), RGB
    yield "png rgba", encoded(with_alpha(RGB)), RGB
    yield "png gray", encoded(GRAY), GRAY_AS_RGB
    yield "png gray alpha", encoded(with_alpha(GRAY)), GRAY_AS_RGB
    yield "png palette", encoded(palette()), from_palette
    yield "png palette transparent", encoded(palette(), transparency=3), from_palette
    yield "png rgb transparent", encoded(RGB, transparency=tuple(RGB[0, 0].tolist())), RGB
    yield "png 1 bit", encoded(Image.fromarray(BLACK_AND_WHITE).convert("1")), np.dstack([BLACK_AND_WHITE] * 3)
    yield "png 16 bit gray", encoded(Image.fromarray(DEEP)), GRAY_AS_RGB
    yield "png 16 bit rgb", with_opencv(".png", DEEP_RGB), RGB
    yield "webp rgb", encoded(RGB, "WEBP", lossless=True), RGB
    yield "webp rgba", encoded(with_alpha(RGB), "WEBP", lossless=True, exact=True), RGB
    yield "bmp rgb", encoded(RGB, "BMP"), RGB
    yield "bmp gray", encoded(GRAY, "BMP"), GRAY_AS_RGB
    yield "bmp palette", encoded(palette(), "BMP"), from_palette
    yield "gif palette", encoded(palette(), "GIF"), from_palette
    yield "gif animated", frames("GIF", duration=100, loop=0), from_palette
    yield "tiff rgb", encoded(RGB, "TIFF"), RGB
    yield "tiff lzw", encoded(RGB, "TIFF", compression="tiff_lzw"), RGB
    yield "tiff rgba", encoded(with_alpha(RGB), "TIFF"), RGB
    yield "tiff gray", encoded(GRAY, "TIFF"), GRAY_AS_RGB
    yield "tiff 16 bit gray", encoded(Image.fromarray(DEEP), "TIFF"), GRAY_AS_RGB
    yield "tiff 16 bit rgb", with_opencv(".tiff", DEEP_RGB), RGB
    yield "tiff palette", encoded(palette(), "TIFF"), from_palette
    yield "tiff cmyk", encoded(cmyk(), "TIFF"), cmyk_as_rgb()
    yield "tiff pages", frames("TIFF"), from_palette
    for orientation in STORED:
        yield f"png orientation {orientation}", oriented("PNG", orientation), RGB
    yield "tiff orientation 6", oriented("TIFF", 6), RGB
    yield "webp orientation 8", oriented("WEBP", 8, lossless=True), RGB


def lossy() -> Iterator[tuple[str, bytes]]:
    """Yield images whose pixels are those that Pillow decodes."""
    yield "jpeg rgb", encoded(RGB, "JPEG", quality=90)
    yield "jpeg progressive", encoded(RGB, "JPEG", progressive=True)
    yield "jpeg gray", encoded(GRAY, "JPEG")
    yield "jpeg cmyk", encoded(cmyk(), "JPEG")
    yield "webp lossy", encoded(RGB, "WEBP", quality=80)
    yield "webp animated", frames("WEBP", duration=100)


LOSSLESS = {name: (data, pixels) for name, data, pixels in lossless()}
LOSSY = dict(lossy())


@pytest.mark.parametrize("kind", LOSSLESS)
def test_lossless_image_as_raw_body_and_as_form(kind: str, squash: Model) -> None:
    data, pixels = LOSSLESS[kind]

    raw, form = squash.post_together([Call(data), Call(data, form={})])

    check(parsed(raw), squash, pixels)
    check(parsed(form), squash, pixels)


@pytest.mark.parametrize("kind", LOSSY)
def test_lossy_image_as_raw_body_and_as_form(kind: str, squash: Model) -> None:
    data = LOSSY[kind]

    raw, form = squash.post_together([Call(data), Call(data, form={})])

    check(parsed(raw), squash, decoded(data))
    check(parsed(form), squash, decoded(data))


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_jpeg_with_exif_orientation(orientation: int, squash: Model) -> None:
    data = oriented("JPEG", orientation, quality=95)
    # Orientations 6 and 8 invert each other; 3 is its own inverse.
    upright = STORED[{3: 3, 6: 8, 8: 6}[orientation]](decoded(data))
    assert upright.shape == RGB.shape

    answer = squash.predict(data, overlay="png")

    check(answer, squash, np.ascontiguousarray(upright))
    overlay = decoded(from_data_url(answer["explanations"][0]["overlay"], "png"))
    assert overlay.shape == RGB.shape


@pytest.mark.parametrize("photograph", ["chelsea.jpg", "coffee.jpg", "rocket.jpg"])
@pytest.mark.parametrize("name", ["squash", "crop", "efficientnet"])
def test_photograph_equals_the_tutorial(photograph: str, name: str, request: pytest.FixtureRequest) -> None:
    model: Model = request.getfixturevalue(name)
    data = (ROOT / "examples" / photograph).read_bytes()

    check(model.predict(data, explain=2), model, decoded(data), 2)


@pytest.mark.parametrize(("photograph", "classes"), [("chelsea.jpg", {281, 282, 285}), ("coffee.jpg", {504, 967})])
def test_published_weights_classify_photographs(photograph: str, classes: set[int], efficientnet: Model) -> None:
    answer = efficientnet.predict((ROOT / "examples" / photograph).read_bytes())

    assert answer["predictions"][0]["index"] in classes
    assert answer["predictions"][0]["probability"] > 0.5


# ----------------------------------------------------------------------------- shapes and the crop

# Resize the shorter side to 256 and take the central 224 × 224, in pixels of the image; computed by hand.
REGIONS = {
    (512, 512): [32, 32, 480, 480],
    (256, 256): [16, 16, 240, 240],
    (512, 256): [144, 16, 368, 240],
    (128, 512): [8, 200, 120, 312],
    (310, 203): [66, 13, 244, 190],
    (64, 64): [4, 4, 60, 60],
}


@pytest.mark.parametrize(("width", "height"), REGIONS)
def test_crop_of_images_of_many_shapes(width: int, height: int, crop: Model) -> None:
    pixels = sample(7, width, height)

    answer = crop.predict(encoded(pixels), overlay="png")

    check(answer, crop, pixels)
    assert answer["image"]["region"] == REGIONS[width, height]
    (explained,) = answer["explanations"]
    drawn = decoded(from_data_url(explained["overlay"], "png"))
    heatmap = crop.expected(pixels, [explained["index"]]).heatmaps[explained["index"]]
    check_overlay(drawn, pixels, heatmap, REGIONS[width, height])


@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 900), (900, 1), (2, 3), (224, 224), (1600, 1200)])
def test_squash_of_images_of_many_shapes(width: int, height: int, squash: Model) -> None:
    # With seed 8, one activation of the image of 224 x 224 is zero but for rounding, and the map depends on its sign.
    pixels = sample(10, width, height)

    answer = squash.predict(encoded(pixels), overlay="png")

    check(answer, squash, pixels)
    (explained,) = answer["explanations"]
    drawn = decoded(from_data_url(explained["overlay"], "png"))
    heatmap = squash.expected(pixels, [explained["index"]]).heatmaps[explained["index"]]
    check_overlay(drawn, pixels, heatmap, [0, 0, width, height])


@pytest.mark.parametrize(("width", "height"), [(1, 1), (2, 300), (1000, 3)])
def test_crop_of_images_of_extreme_shapes(width: int, height: int, crop: Model) -> None:
    pixels = sample(9, width, height)

    answer = crop.predict(encoded(pixels), overlay="png")

    check(answer, crop, pixels)
    left, top, right, bottom = answer["image"]["region"]
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height


def test_samples_have_their_stated_format() -> None:
    """Check the helpers above: a wrong one would make many of the samples identical."""
    modes = {}
    for name, (data, _) in LOSSLESS.items():
        with Image.open(io.BytesIO(data)) as image:
            modes[name] = (image.format, image.mode, getattr(image, "n_frames", 1))
    assert modes["png rgba"] == ("PNG", "RGBA", 1)
    assert modes["png gray"] == ("PNG", "L", 1)
    assert modes["png gray alpha"] == ("PNG", "LA", 1)
    assert modes["png palette"] == ("PNG", "P", 1)
    assert modes["png 1 bit"] == ("PNG", "1", 1)
    assert modes["png 16 bit gray"] == ("PNG", "I;16", 1)
    assert modes["webp rgba"] == ("WEBP", "RGBA", 1)
    assert modes["bmp palette"] == ("BMP", "P", 1)
    assert modes["gif animated"] == ("GIF", "P", 2)
    assert modes["tiff 16 bit gray"] == ("TIFF", "I;16", 1)
    assert modes["tiff cmyk"] == ("TIFF", "CMYK", 1)
    assert modes["tiff pages"] == ("TIFF", "P", 2)
    assert (with_opencv(".png", DEEP_RGB)[24], LOSSLESS["png 16 bit rgb"][0][24]) == (16, 16)
