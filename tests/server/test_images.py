"""Every kind of picture over HTTP, against the tutorial on the pixels that the picture was made of."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.support.served import (
    Call,
    Model,
    Pixels,
    check,
    check_overlay,
    decoded,
    document,
    encoded,
    from_data_url,
    sample,
)
from tools.paths import ROOT

RGB = sample(1)
OTHER = sample(2)
ALPHA = sample(3)[:, :, 0]
GREY = sample(4)[:, :, 0]
GREY_AS_RGB = np.repeat(GREY[:, :, None], 3, axis=2)
# Both bytes of these are in use, so cutting off at 255 or taking the lower one shows.
DEEP: NDArray[np.uint16] = (GREY.astype(np.uint16) << 8) + sample(5)[:, :, 1]
DEEP_RGB: NDArray[np.uint16] = (RGB.astype(np.uint16) << 8) + sample(6)
BLACK_AND_WHITE: Pixels = np.where(GREY > 120, 255, 0).astype(np.uint8)

# Sent picture from the upright one, by the number of EXIF's orientation tag.
TURNED: dict[int, Callable[[Pixels], Pixels]] = {
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


def ink_on_paper() -> Pixels:
    """What is left of the white paper's light behind each ink and black, in whole numbers as Pillow rounds."""
    colors, black = OTHER.astype(np.int64), 255 - ALPHA[:, :, None].astype(np.int64) // 2
    product = colors * black + 128
    return (black - ((product >> 8) + product >> 8)).clip(0, 255).astype(np.uint8)


def oriented(kind: str, orientation: int, **options: object) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(np.ascontiguousarray(TURNED[orientation](RGB)), kind, exif=exif.tobytes(), **options)


def with_opencv(kind: str, pixels: NDArray[np.uint16]) -> bytes:
    """Encodes 16 bits a channel, RGB, which Pillow cannot."""
    done, data = cv2.imencode(kind, pixels[:, :, ::-1])
    assert done
    return data.tobytes()


def frames(kind: str, **options: object) -> bytes:
    first, second = Image.fromarray(RGB).quantize(64), Image.fromarray(OTHER).quantize(64)
    return encoded(first, kind, save_all=True, append_images=[second], **options)


def lossless() -> Iterator[tuple[str, bytes, Pixels]]:
    """Yields pictures whose pixels are known without decoding them."""
    of_palette = np.asarray(palette().convert("RGB"))
    yield "png rgb", encoded(RGB), RGB
    yield "png rgba", encoded(with_alpha(RGB)), RGB
    yield "png grey", encoded(GREY), GREY_AS_RGB
    yield "png grey alpha", encoded(with_alpha(GREY)), GREY_AS_RGB
    yield "png palette", encoded(palette()), of_palette
    yield "png palette transparent", encoded(palette(), transparency=3), of_palette
    yield "png rgb transparent", encoded(RGB, transparency=tuple(RGB[0, 0].tolist())), RGB
    yield "png 1 bit", encoded(Image.fromarray(BLACK_AND_WHITE).convert("1")), np.dstack([BLACK_AND_WHITE] * 3)
    yield "png 16 bit grey", encoded(Image.fromarray(DEEP)), GREY_AS_RGB
    yield "png 16 bit rgb", with_opencv(".png", DEEP_RGB), RGB
    yield "webp rgb", encoded(RGB, "WEBP", lossless=True), RGB
    yield "webp rgba", encoded(with_alpha(RGB), "WEBP", lossless=True, exact=True), RGB
    yield "bmp rgb", encoded(RGB, "BMP"), RGB
    yield "bmp grey", encoded(GREY, "BMP"), GREY_AS_RGB
    yield "bmp palette", encoded(palette(), "BMP"), of_palette
    yield "gif palette", encoded(palette(), "GIF"), of_palette
    yield "gif animated", frames("GIF", duration=100, loop=0), of_palette
    yield "tiff rgb", encoded(RGB, "TIFF"), RGB
    yield "tiff lzw", encoded(RGB, "TIFF", compression="tiff_lzw"), RGB
    yield "tiff rgba", encoded(with_alpha(RGB), "TIFF"), RGB
    yield "tiff grey", encoded(GREY, "TIFF"), GREY_AS_RGB
    yield "tiff 16 bit grey", encoded(Image.fromarray(DEEP), "TIFF"), GREY_AS_RGB
    yield "tiff 16 bit rgb", with_opencv(".tiff", DEEP_RGB), RGB
    yield "tiff palette", encoded(palette(), "TIFF"), of_palette
    yield "tiff cmyk", encoded(cmyk(), "TIFF"), ink_on_paper()
    yield "tiff pages", frames("TIFF"), of_palette
    for orientation in TURNED:
        yield f"png orientation {orientation}", oriented("PNG", orientation), RGB
    yield "tiff orientation 6", oriented("TIFF", 6), RGB
    yield "webp orientation 8", oriented("WEBP", 8, lossless=True), RGB


def lossy() -> Iterator[tuple[str, bytes]]:
    """Yields pictures whose pixels are what Pillow decodes."""
    yield "jpeg rgb", encoded(RGB, "JPEG", quality=90)
    yield "jpeg progressive", encoded(RGB, "JPEG", progressive=True)
    yield "jpeg grey", encoded(GREY, "JPEG")
    yield "jpeg cmyk", encoded(cmyk(), "JPEG")
    yield "webp lossy", encoded(RGB, "WEBP", quality=80)
    yield "webp animated", frames("WEBP", duration=100)


LOSSLESS = {name: (data, pixels) for name, data, pixels in lossless()}
LOSSY = dict(lossy())


@pytest.mark.parametrize("kind", LOSSLESS)
def test_picture_as_raw_body_and_as_form(kind: str, squash: Model) -> None:
    data, pixels = LOSSLESS[kind]

    raw, form = squash.post_together([Call(data), Call(data, form={})])

    check(document(raw), squash, pixels)
    check(document(form), squash, pixels)


@pytest.mark.parametrize("kind", LOSSY)
def test_lossy_picture_as_raw_body_and_as_form(kind: str, squash: Model) -> None:
    data = LOSSY[kind]

    raw, form = squash.post_together([Call(data), Call(data, form={})])

    check(document(raw), squash, decoded(data))
    check(document(form), squash, decoded(data))


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_jpeg_turned_by_a_camera(orientation: int, squash: Model) -> None:
    data = oriented("JPEG", orientation, quality=95)
    # Turned back: quarter turns undo each other, a half turn itself.
    upright = TURNED[{3: 3, 6: 8, 8: 6}[orientation]](decoded(data))
    assert upright.shape == RGB.shape

    answer = squash.ask(data, overlay="png")

    check(answer, squash, np.ascontiguousarray(upright))
    overlay = decoded(from_data_url(answer["explanations"][0]["overlay"], "png"))
    assert overlay.shape == RGB.shape


@pytest.mark.parametrize("photograph", ["chelsea.jpg", "coffee.jpg", "rocket.jpg"])
@pytest.mark.parametrize("name", ["squash", "crop", "efficientnet"])
def test_photograph(photograph: str, name: str, request: pytest.FixtureRequest) -> None:
    model: Model = request.getfixturevalue(name)
    data = (ROOT / "examples" / photograph).read_bytes()

    check(model.ask(data, explain=2), model, decoded(data), 2)


@pytest.mark.parametrize(("photograph", "classes"), [("chelsea.jpg", {281, 282, 285}), ("coffee.jpg", {504, 967})])
def test_published_weights_see_what_is_there(photograph: str, classes: set[int], efficientnet: Model) -> None:
    answer = efficientnet.ask((ROOT / "examples" / photograph).read_bytes())

    assert answer["predictions"][0]["index"] in classes
    assert answer["predictions"][0]["probability"] > 0.5


# ----------------------------------------------------------------------------- shapes and the crop

# Resized so that the shorter side is 256, middle 224 × 224 taken, in pixels of the picture; computed by hand.
REGIONS = {
    (512, 512): [32, 32, 480, 480],
    (256, 256): [16, 16, 240, 240],
    (512, 256): [144, 16, 368, 240],
    (128, 512): [8, 200, 120, 312],
    (310, 203): [66, 13, 244, 190],
    (64, 64): [4, 4, 60, 60],
}


@pytest.mark.parametrize(("width", "height"), REGIONS)
def test_crop_of_every_shape(width: int, height: int, crop: Model) -> None:
    pixels = sample(7, width, height)

    answer = crop.ask(encoded(pixels), overlay="png")

    check(answer, crop, pixels)
    assert answer["image"]["region"] == REGIONS[width, height]
    (explained,) = answer["explanations"]
    drawn = decoded(from_data_url(explained["overlay"], "png"))
    heatmap = crop.expected(pixels, [explained["index"]]).heatmaps[explained["index"]]
    check_overlay(drawn, pixels, heatmap, REGIONS[width, height])


@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 900), (900, 1), (2, 3), (224, 224), (1600, 1200)])
def test_squash_of_every_shape(width: int, height: int, squash: Model) -> None:
    pixels = sample(8, width, height)

    answer = squash.ask(encoded(pixels), overlay="png")

    check(answer, squash, pixels)
    (explained,) = answer["explanations"]
    drawn = decoded(from_data_url(explained["overlay"], "png"))
    heatmap = squash.expected(pixels, [explained["index"]]).heatmaps[explained["index"]]
    check_overlay(drawn, pixels, heatmap, [0, 0, width, height])


@pytest.mark.parametrize(("width", "height"), [(1, 1), (2, 300), (1000, 3)])
def test_crop_of_an_extreme_shape(width: int, height: int, crop: Model) -> None:
    pixels = sample(9, width, height)

    answer = crop.ask(encoded(pixels), overlay="png")

    check(answer, crop, pixels)
    left, top, right, bottom = answer["image"]["region"]
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height


def test_samples_are_what_they_say() -> None:
    """The kinds above differ in what the test is about: a wrong helper would make many of them the same."""
    modes = {}
    for name, (data, _) in LOSSLESS.items():
        with Image.open(io.BytesIO(data)) as image:
            modes[name] = (image.format, image.mode, getattr(image, "n_frames", 1))
    assert modes["png rgba"] == ("PNG", "RGBA", 1)
    assert modes["png grey"] == ("PNG", "L", 1)
    assert modes["png grey alpha"] == ("PNG", "LA", 1)
    assert modes["png palette"] == ("PNG", "P", 1)
    assert modes["png 1 bit"] == ("PNG", "1", 1)
    assert modes["png 16 bit grey"] == ("PNG", "I;16", 1)
    assert modes["webp rgba"] == ("WEBP", "RGBA", 1)
    assert modes["bmp palette"] == ("BMP", "P", 1)
    assert modes["gif animated"] == ("GIF", "P", 2)
    assert modes["tiff 16 bit grey"] == ("TIFF", "I;16", 1)
    assert modes["tiff cmyk"] == ("TIFF", "CMYK", 1)
    assert modes["tiff pages"] == ("TIFF", "P", 2)
    assert (with_opencv(".png", DEEP_RGB)[24], LOSSLESS["png 16 bit rgb"][0][24]) == (16, 16)
