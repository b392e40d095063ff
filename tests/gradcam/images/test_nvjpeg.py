"""GPU decoding, compared with Pillow's; files that it cannot decode are left to Pillow.

TorchCodec has one function for GPUs and CPUs, so everything here except nvJPEG itself also runs on a CPU.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
import logging
import math
import struct
import sys
from collections.abc import Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms
from torch import Tensor
from torch.nn import functional

from gradcam import pipeline as pipeline_module
from gradcam.batch import Item
from gradcam.errors import InvalidOption, TooExpensive, UndecodableImage
from gradcam.images import decoding, nvjpeg
from gradcam.images.decoding import DecodedImage, baseline_jpeg
from gradcam.images.geometry import CropGeometry
from gradcam.images.model_input import PreparedInput, model_input
from gradcam.images.nvjpeg import Decoder
from gradcam.message import Request, Result
from gradcam.network.architecture import build
from gradcam.network.labels import Labels
from gradcam.options import Options
from gradcam.pipeline import Pipeline
from gradcam.settings import Settings
from tests.support import oracles
from tests.support.encoding import encoded
from tests.support.jpeg_files import GIF, LEFT, ORDINARY, PNG, jpeg, photograph
from tests.support.settings import settings

DEVICES = [
    pytest.param("cpu"),
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")),
]

SETTINGS = settings(num_classes=10, input_size=(96, 128), engine="eager", resize_size=140, decoding="fast")


# Maximum and mean difference from Pillow, in gray levels. nvJPEG upsamples chroma differently, by an unknown amount.
TOLERANCE = {"cpu": (1, 0.3), "cuda": (12, 2.0)}


# By EXIF orientation, the image that a camera stores for an upright one.
STORED = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.transpose(1, 0, 2),
    6: lambda upright: upright.transpose(1, 0, 2)[::-1],
    7: lambda upright: upright.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda upright: upright.transpose(1, 0, 2)[:, ::-1],
}


def black_and_white(width: int, height: int) -> Image.Image:
    """Return a grayscale image of black and white; a bicubic resize overshoots both unless it is clamped."""
    return Image.fromarray(
        np.repeat(np.array([[0, 255]], np.uint8), [width // 2, width - width // 2], axis=1).repeat(height, axis=0)
    )


def decoder_on(device: str, **changes: Any) -> Decoder:
    decoder = Decoder.load(dataclasses.replace(SETTINGS, **changes), torch.device(device))
    assert decoder is not None
    return decoder


def exact(data: bytes, settings: Settings = SETTINGS) -> tuple[CropGeometry, Tensor]:
    """Return the geometry and the exact model input of an image that Pillow decodes at full resolution."""
    image = decoding.decode(data, settings, full_resolution=True)
    geometry = CropGeometry.of(image.width, image.height, settings)
    return geometry, model_input(image.image, geometry, "exact")


def decoded(decoder: Decoder, images: Mapping[int, bytes]) -> dict[int, PreparedInput]:
    return decoder.decode(images, math.inf)


@pytest.fixture(scope="module")
def decoder() -> Decoder:
    return decoder_on("cpu")


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("transform", ["squash", "crop"])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
def test_model_input_equals_pillows(device: str, interpolation: Any, transform: Any, subsampling: str) -> None:
    decoder = decoder_on(device, interpolation=interpolation, transform=transform)
    images = {7: photograph(400, 300), 2: photograph(301, 517, 1), 5: black_and_white(233, 187)}
    files = {row: jpeg(image, subsampling=subsampling) for row, image in images.items()}
    prepared = decoded(decoder, files)
    assert sorted(prepared) == [2, 5, 7]
    for row, data in files.items():
        geometry, expected = exact(data, decoder.settings)
        ours = prepared[row].model_input
        assert (prepared[row].geometry, ours.device.type, ours.dtype) == (geometry, device, torch.uint8)
        assert ours.shape == expected.shape == (3, 96, 128)
        difference = (ours.cpu().int() - expected.int()).abs()
        maximum, mean = TOLERANCE[device]
        assert difference.max() <= maximum
        assert difference.float().mean() <= mean


def in_exif(orientation: int) -> dict[str, Any]:
    block = Image.Exif()
    block[0x0112] = orientation
    return {"exif": block}


def in_exif_as(kind: int, orientation: int) -> dict[str, Any]:
    """Return options that store an orientation with an unusual type: 2 is text, 4 is 32 bits, 7 is undefined."""
    entry = struct.pack("<HHI", 0x0112, kind, 1) + struct.pack("<I", orientation)
    return {"exif": b"Exif\0\0II*\0\x08\0\0\0\x01\0" + entry + b"\0\0\0\0"}


def in_xmp(orientation: int) -> dict[str, Any]:
    return {"xmp": f'<x:xmpmeta><rdf:Description tiff:Orientation="{orientation}"/></x:xmpmeta>'.encode()}


ORIENTED = {
    **{f"exif {value}": (value, in_exif(value)) for value in STORED},
    **{f"xmp {value}": (value, in_xmp(value)) for value in STORED},
    "32 bits": (3, in_exif_as(4, 3)),
    "text": (1, in_exif_as(2, 3)),
    "undefined": (1, in_exif_as(7, 3)),
}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("width", [400, 300])
@pytest.mark.parametrize(("orientation", "options"), ORIENTED.values(), ids=ORIENTED)
def test_orientation_equals_pillows(device: str, width: int, orientation: int, options: dict[str, Any]) -> None:
    upright = np.asarray(photograph(width, 300))
    data = jpeg(STORED[orientation](upright), subsampling="4:4:4", **options)
    prepared = decoded(decoder_on(device), {0: data})[0]
    geometry, expected = exact(data)
    assert (prepared.geometry, geometry.width, geometry.height) == (geometry, width, 300)
    difference = (prepared.model_input.cpu().int() - expected.int()).abs()
    assert difference.max() <= TOLERANCE[device][0]
    # Pillow's transposes against the upright image, which was compressed in other blocks of pixels.
    upright_input = exact(jpeg(upright, subsampling="4:4:4"))[1]
    assert (prepared.model_input.cpu().int() - upright_input.int()).abs().float().mean() < 2


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    "options",
    [
        {"icc_profile": ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()},
        {"exif": b"Exif\0\0" + jpeg(photograph(60, 40))},
        {"restart_marker_blocks": 1},
        {"comment": b"\xff\xd9\xff\xda\xff\xc2"},
        {"optimize": True, "quality": 30},
    ],
    ids=lambda options: next(iter(options)),
)
def test_other_segments_of_a_file_are_ignored(device: str, options: dict[str, Any]) -> None:
    data = jpeg(photograph(), **options)
    prepared = decoded(decoder_on(device), {0: data})[0]
    assert (prepared.model_input.cpu().int() - exact(data)[1].int()).abs().max() <= TOLERANCE[device][0]


@pytest.mark.parametrize(
    ("limit", "together"),
    [(10**9, [[0, 1, 2, 3]]), (240_000, [[0, 1], [2, 3]]), (130_000, [[0], [1], [2], [3]])],
    ids=["all", "pairs", "single"],
)
def test_groups_stay_within_the_pixel_limit(
    decoder: Decoder, limit: int, together: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {row: jpeg(photograph(400, 300, row)) for row in range(4)}
    calls: list[list[bytes]] = []

    def recorded(files: list[bytes], **options: Any) -> list[Tensor]:
        calls.append(files)
        return decoder.decode_jpeg(files, **options)

    monkeypatch.setattr(nvjpeg, "MAX_GROUP_PIXELS", limit)
    prepared = decoded(dataclasses.replace(decoder, decode_jpeg=recorded), files)
    assert calls == [[files[row] for row in rows] for rows in together]
    for row, data in files.items():
        assert (prepared[row].model_input.int() - exact(data)[1].int()).abs().max() <= 1


@pytest.mark.parametrize("name", LEFT)
def test_unusual_files_are_left_to_pillow(decoder: Decoder, name: str) -> None:
    data = LEFT[name]
    assert (baseline_jpeg(data, SETTINGS) is None) == (name not in ("enlarged", "very long"))
    decoder = dataclasses.replace(decoder, settings=dataclasses.replace(SETTINGS, transform="crop"))
    assert ORDINARY not in LEFT.values()
    assert list(decoded(decoder, {0: data, 1: ORDINARY})) == [1]


def test_other_formats_are_not_opened(decoder: Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "open", lambda *arguments, **options: pytest.fail("opened"))
    assert decoded(decoder, {0: PNG, 1: GIF, 2: b""}) == {}


@pytest.mark.parametrize(
    "limits", [{"max_image_pixels": 119_999}, {"max_image_bytes": len(ORDINARY) - 1}], ids=["pixels", "bytes"]
)
def test_file_beyond_a_limit_is_left_to_pillow(decoder: Decoder, limits: dict[str, Any]) -> None:
    assert list(decoded(decoder, {0: ORDINARY})) == [0]
    limited = dataclasses.replace(decoder, settings=dataclasses.replace(SETTINGS, **limits))
    assert decoded(limited, {0: ORDINARY}) == {}


def corrupt_jpeg() -> bytes:
    """Return a JPEG with a valid header and Huffman tables of impossibly many codes."""
    at = ORDINARY.index(b"\xff\xc4") + 5
    return ORDINARY[:at] + b"\xff" * 16 + ORDINARY[at + 16 :]


@pytest.mark.parametrize("device", DEVICES)
def test_corrupt_jpeg_does_not_affect_others(device: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert baseline_jpeg(corrupt_jpeg(), SETTINGS) is not None
    files = {row: corrupt_jpeg() if row == 1 else jpeg(photograph(seed=row)) for row in range(3)}
    prepared = decoded(decoder_on(device), files)
    assert sorted(prepared) == [0, 2]
    assert "cannot decode a group of 3 JPEGs: " in caplog.text
    assert "cannot decode a group of 1 JPEGs: " in caplog.text
    for row, ours in prepared.items():
        assert (ours.model_input.cpu().int() - exact(files[row])[1].int()).abs().max() <= TOLERANCE[device][0]


def test_damaged_header_is_read_like_pillow_or_left_to_it(decoder: Decoder) -> None:
    random = np.random.default_rng(0)
    header = ORDINARY.index(b"\xff\xda") + 14
    read = 0
    for _ in range(500):
        damaged = bytearray(ORDINARY)
        for at in random.integers(2, header, 2):
            damaged[at] = random.integers(256)
        for prepared in decoded(decoder, {0: bytes(damaged)}).values():
            geometry, expected = exact(bytes(damaged))
            assert prepared.geometry == geometry
            assert (prepared.model_input.int() - expected.int()).abs().max() <= 1
            read += 1
    assert read > 50


def test_image_decoded_to_another_size_is_left_to_pillow(decoder: Decoder) -> None:
    def turning(files: list[bytes], **options: Any) -> list[Tensor]:
        return [pixels.transpose(1, 2) for pixels in decoder.decode_jpeg(files, **options)]

    assert decoded(dataclasses.replace(decoder, decode_jpeg=turning), {0: ORDINARY}) == {}


def test_image_that_cannot_be_resized_does_not_affect_others(decoder: Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    interpolate = functional.interpolate

    def without_memory(pixels: Tensor, *arguments: Any, **options: Any) -> Tensor:
        if pixels.shape[2:] == (300, 400):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return interpolate(pixels, *arguments, **options)

    monkeypatch.setattr(functional, "interpolate", without_memory)
    assert list(decoded(decoder, {0: ORDINARY, 1: jpeg(photograph(300, 200))})) == [1]


def set_clock(monkeypatch: pytest.MonkeyPatch, module: Any, seconds: Iterator[int]) -> None:
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: next(seconds)))


def test_no_file_is_started_after_the_deadline(decoder: Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files inspected before the deadline are decoded, but not one by one."""
    calls: list[int] = []

    def failing(files: list[bytes], **options: Any) -> list[Tensor]:
        calls.append(len(files))
        raise RuntimeError("corrupt")

    files = {row: jpeg(photograph(seed=row)) for row in range(5)}
    set_clock(monkeypatch, nvjpeg, itertools.count())
    assert sorted(decoder.decode(files, deadline=2)) == [0, 1, 2]
    set_clock(monkeypatch, nvjpeg, itertools.count())
    assert dataclasses.replace(decoder, decode_jpeg=failing).decode(files, deadline=2) == {}
    assert calls == [3]


def loaded(monkeypatch: pytest.MonkeyPatch, decode_jpeg: Any) -> Decoder | None:
    monkeypatch.setattr("torchcodec.decoders.decode_jpeg", decode_jpeg)
    return Decoder.load(SETTINGS, torch.device("cpu"))


def test_without_torchcodec_there_is_no_decoder(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", None)
    caplog.set_level(logging.INFO)
    assert Decoder.load(SETTINGS, torch.device("cpu")) is None
    assert "JPEGs are decoded on the CPU" in caplog.text
    assert "pip install torchcodec" in caplog.text


def test_decoder_that_fails_is_not_used(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def failing(files: Sequence[bytes], **options: Any) -> list[Tensor]:
        raise RuntimeError("torchcodec was not compiled with nvJPEG support")

    caplog.set_level(logging.INFO)
    assert loaded(monkeypatch, failing) is None
    assert "not compiled with nvJPEG support" in caplog.text
    assert "JPEGs are decoded on the CPU: nvJPEG failed on a test image" in caplog.text


def test_decoder_that_swaps_color_channels_is_not_used(
    decoder: Decoder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def swapped(files: list[bytes], **options: Any) -> list[Tensor]:
        return [pixels.flip(0) for pixels in decoder.decode_jpeg(files, **options)]

    caplog.set_level(logging.INFO)
    assert loaded(monkeypatch, swapped) is None
    assert "nvJPEG differs from Pillow by" in caplog.text


@pytest.fixture(scope="module")
def pipelines() -> tuple[Pipeline, Pipeline]:
    """Return one pipeline that decodes JPEGs like a GPU, and one that decodes everything exactly with Pillow."""
    model = oracles.seeded(build("resnet18", SETTINGS.num_classes), seed=3)
    labels = Labels(tuple("abcdefghij"))
    exactly = dataclasses.replace(SETTINGS, decoding="exact")
    ours, theirs = (Pipeline(model, labels, settings, torch.device("cpu")) for settings in (SETTINGS, exactly))
    assert ours.decoder is None  # on a CPU
    ours.decoder = decoder_on("cpu")
    return ours, theirs


def test_batch_of_jpegs_other_formats_and_overlays(
    pipelines: tuple[Pipeline, Pipeline], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Images of the input's size: without a resize, equal gray levels lead to equal maps.
    requests = [
        Request(jpeg(photograph(128, 96)), Options()),
        Request(encoded(photograph(128, 96, 1), "PNG"), Options(explain=2)),
        Request(corrupt_jpeg(), Options()),
        Request(jpeg(photograph(128, 96, 2)), Options(explain=3)),
        Request(jpeg(photograph(128, 96, 3)), Options(overlay="png")),
    ]
    ours, theirs = pipelines
    expected = theirs.answer(requests)
    decoded_by_pillow: list[bytes] = []
    decode = decoding.decode

    def recorded(data: bytes, settings: Settings, *, full_resolution: bool) -> DecodedImage:
        decoded_by_pillow.append(data)
        return decode(data, settings, full_resolution=full_resolution)

    monkeypatch.setattr(decoding, "decode", recorded)
    got = ours.answer(requests)
    assert {requests.index(request) for request in requests if request.image in decoded_by_pillow} == {1, 2, 4}
    assert isinstance(got[2], UndecodableImage)
    assert str(got[2]) == str(expected[2])
    for row in (0, 1, 3, 4):
        mine, other = got[row], expected[row]
        assert isinstance(mine, Result)
        assert isinstance(other, Result)
        assert (mine.width, mine.height, mine.region) == (other.width, other.height, other.region)
        assert mine.predictions[0].index == other.predictions[0].index
        for one, another in zip(mine.explanations, other.explanations, strict=True):
            assert one.prediction.index == another.prediction.index
            np.testing.assert_allclose(one.heatmap, another.heatmap, rtol=0, atol=1e-5)
    overlay = got[4]
    assert isinstance(overlay, Result)
    assert overlay.explanations[0].overlay is not None


def test_request_with_invalid_options_is_not_decoded(pipelines: tuple[Pipeline, Pipeline], decoder: Decoder) -> None:
    calls: list[bytes] = []

    def recorded(files: list[bytes], **options: Any) -> list[Tensor]:
        calls.extend(files)
        return decoder.decode_jpeg(files, **options)

    pipeline = copy.copy(pipelines[0])
    pipeline.decoder = dataclasses.replace(decoder, decode_jpeg=recorded)
    rejected, answered = pipeline.answer([Request(ORDINARY, Options(topk=11)), Request(ORDINARY, Options())])
    assert isinstance(rejected, InvalidOption)
    assert isinstance(answered, Result)
    assert calls == [ORDINARY]


def test_image_decoded_in_time_is_answered(
    pipelines: tuple[Pipeline, Pipeline], monkeypatch: pytest.MonkeyPatch
) -> None:
    set_clock(monkeypatch, nvjpeg, itertools.repeat(0))
    # Decoding may take 20 of a batch's 40 seconds.
    set_clock(monkeypatch, pipeline_module, itertools.chain([0], itertools.repeat(30)))
    requests = [Request(ORDINARY, Options()), Request(PNG, Options())]
    batch = pipelines[0].preprocess(requests)
    assert isinstance(batch.items[0], Item)
    assert isinstance(batch.items[1], TooExpensive)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_pipeline_on_a_gpu_decodes_there(pipelines: tuple[Pipeline, Pipeline]) -> None:
    model = oracles.seeded(build("resnet18", SETTINGS.num_classes), seed=3).cuda()
    pipeline = Pipeline(model, Labels(tuple("abcdefghij")), SETTINGS, torch.device("cuda"))
    assert pipeline.decoder is not None
    requests = [Request(jpeg(photograph(seed=seed)), Options()) for seed in range(3)]
    (item, *_) = pipeline.preprocess(requests).answerable
    assert item.prepared.model_input.is_cuda
    for mine, other in zip(pipeline.answer(requests), pipelines[1].answer(requests), strict=True):
        assert isinstance(mine, Result)
        assert isinstance(other, Result)
        assert mine.predictions[0].index == other.predictions[0].index
