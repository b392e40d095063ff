"""What a GPU decodes is what Pillow decodes, and what it cannot is left to Pillow.

TorchCodec has one function for GPUs and CPUs, so on a CPU everything here but nvJPEG itself is tried.
"""

from __future__ import annotations

import dataclasses
import io
import logging
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageCms
from torch import Tensor

import oracles
from gradcam import images, network, nvjpeg
from gradcam.errors import RequestError, UndecodableImage
from gradcam.images import View
from gradcam.message import Request, Result
from gradcam.network import Labels
from gradcam.nvjpeg import Decoder
from gradcam.options import Options
from gradcam.pipeline import Pipeline
from gradcam.settings import Settings

DEVICES = [
    pytest.param("cpu"),
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")),
]
SETTINGS = Settings(
    architecture="resnet18",
    num_classes=10,
    weights="seeded",
    weights_sha256="0" * 64,
    input_size=(96, 128),
    mean=oracles.ARCHITECTURE_MEAN,
    std=oracles.ARCHITECTURE_STD,
    layer="layer4.1.conv2",
    engine="eager",
    resize_size=140,
    decoding="fast",
)
# How many grey levels off it may be, at most and in the mean. nvJPEG enlarges colours in its own way; how far off that
# is has not been seen.
OFF = {"cpu": (1, 0.3), "cuda": (12, 2.0)}
# By EXIF's orientation, what the camera stored when the picture was to be seen upright.
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


def jpeg(picture: Image.Image | NDArray[np.uint8], **options: Any) -> bytes:
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(np.ascontiguousarray(picture))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", **{"quality": 95, **options})
    return buffer.getvalue()


def photograph(width: int = 400, height: int = 300, seed: int = 0) -> Image.Image:
    return oracles.picture(width, height, seed)


def halves(width: int, height: int) -> Image.Image:
    """Returns black and white, in one channel; resized with `bicubic` more than black and white without limits."""
    return Image.fromarray(
        np.repeat(np.uint8([[0, 255]]), [width // 2, width - width // 2], axis=1).repeat(height, axis=0)
    )


def decoder_on(device: str, **changes: Any) -> Decoder:
    decoder = Decoder.load(dataclasses.replace(SETTINGS, **changes), torch.device(device))
    assert decoder is not None
    return decoder


def exact(data: bytes, settings: Settings = SETTINGS) -> tuple[View, Tensor]:
    """What Pillow makes of a picture, at full scale and to the pixel."""
    picture = images.decode(data, settings, whole=True)
    view = View.of(picture.width, picture.height, settings)
    return view, images.model_input(picture.image, view, "exact")


@pytest.fixture(scope="module")
def decoder() -> Decoder:
    return decoder_on("cpu")


# ----------------------------------------------------------------------------- what is decoded


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("transform", ["squash", "crop"])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
def test_it_is_pillows_model_input(device: str, interpolation: Any, transform: Any, subsampling: str) -> None:
    decoder = decoder_on(device, interpolation=interpolation, transform=transform)
    pictures = {7: photograph(400, 300), 2: photograph(301, 517, 1), 5: halves(233, 187)}
    sent = {row: jpeg(picture, subsampling=subsampling) for row, picture in pictures.items()}
    seen = decoder.decode(sent)
    assert sorted(seen) == [2, 5, 7]
    for row, data in sent.items():
        view, expected = exact(data, decoder.settings)
        ours = seen[row].model_input
        assert (seen[row].view, ours.device.type, ours.dtype) == (view, device, torch.uint8)
        assert ours.shape == expected.shape == (3, 96, 128)
        off = (ours.cpu().int() - expected.int()).abs()
        most, mean = OFF[device]
        assert off.max() <= most
        assert off.float().mean() <= mean


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("orientation", STORED)
def test_a_picture_is_turned_as_its_orientation_says(device: str, orientation: int) -> None:
    upright = np.asarray(photograph())
    block = Image.Exif()
    block[0x0112] = orientation
    data = jpeg(STORED[orientation](upright), exif=block, subsampling="4:4:4")
    seen = decoder_on(device).decode({0: data})[0]
    view, expected = exact(jpeg(upright, subsampling="4:4:4"))
    assert (seen.view, view.width, view.height) == (view, 400, 300)
    # Of a picture stored on its side other blocks of pixels were compressed.
    assert (seen.model_input.cpu().int() - expected.int()).abs().float().mean() < 2


@pytest.mark.parametrize(
    ("limit", "together"),
    [(10**9, [[0, 1, 2, 3]]), (240_000, [[0, 1], [2, 3]]), (130_000, [[0], [1], [2], [3]])],
    ids=["all", "pairs", "single"],
)
def test_so_many_pixels_are_decoded_at_once(
    decoder: Decoder, limit: int, together: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = {row: jpeg(photograph(400, 300, row)) for row in range(4)}
    calls: list[list[bytes]] = []

    def noted(files: list[bytes], **options: Any) -> list[Tensor]:
        calls.append(files)
        return decoder.decode_jpeg(files, **options)

    monkeypatch.setattr(nvjpeg, "MOST_PIXELS", limit)
    seen = dataclasses.replace(decoder, decode_jpeg=noted).decode(sent)
    assert calls == [[sent[row] for row in rows] for rows in together]
    for row, data in sent.items():
        assert (seen[row].model_input.int() - exact(data)[1].int()).abs().max() <= 1


# ----------------------------------------------------------------------------- what is left to Pillow


ADOBE = b"\xff\xee\x00\x0eAdobe\x00\x64" + bytes(5)


def without_adobe(data: bytes) -> bytes:
    at = data.index(b"\xff\xee")
    return data[:at] + data[at + 2 + int.from_bytes(data[at + 2 : at + 4], "big") :]


def png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def two_in_one(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "MPO", save_all=True, append_images=[picture])
    return buffer.getvalue()


ORDINARY = jpeg(photograph())
LEFT = {
    "not a picture": b"hello",
    "nothing": b"",
    "png": png(photograph()),
    "two in one": two_in_one(photograph()),
    "progressive": jpeg(photograph(), progressive=True),
    "four inks": jpeg(photograph().convert("CMYK")),
    "channels numbered R, G, B": without_adobe(jpeg(photograph(), keep_rgb=True)),
    "channels said to be red, green, blue": ORDINARY[:2] + ADOBE + ORDINARY[2:],
    "cut short": ORDINARY[:-2],
    "something behind it": ORDINARY + b"film",
    "enlarged": jpeg(photograph(100, 80)),
    "very long": jpeg(photograph(16, 9000)),
}


@pytest.mark.parametrize("data", LEFT.values(), ids=LEFT)
def test_what_is_left_to_pillow(decoder: Decoder, data: bytes) -> None:
    decoder = dataclasses.replace(decoder, settings=dataclasses.replace(SETTINGS, transform="crop"))
    assert ORDINARY not in LEFT.values()
    assert list(decoder.decode({0: data, 1: ORDINARY})) == [1]


@pytest.mark.parametrize(
    "limits", [{"max_image_pixels": 119_999}, {"max_image_bytes": len(ORDINARY) - 1}], ids=["pixels", "bytes"]
)
def test_what_is_too_large_is_left_to_pillow(decoder: Decoder, limits: dict[str, int]) -> None:
    assert list(decoder.decode({0: ORDINARY})) == [0]
    limited = dataclasses.replace(decoder, settings=dataclasses.replace(SETTINGS, **limits))
    assert limited.decode({0: ORDINARY}) == {}


def broken() -> bytes:
    """A JPEG whose header is whole, and whose Huffman tables have more codes than there can be."""
    at = ORDINARY.index(b"\xff\xc4") + 5
    return ORDINARY[:at] + b"\xff" * 16 + ORDINARY[at + 16 :]


@pytest.mark.parametrize("device", DEVICES)
def test_a_broken_one_harms_no_other(device: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert images.plain_jpeg(broken(), SETTINGS) == (400, 300)
    sent = {row: broken() if row == 1 else jpeg(photograph(seed=row)) for row in range(3)}
    seen = decoder_on(device).decode(sent)
    assert sorted(seen) == [0, 2]
    assert "left to Pillow" in caplog.text
    for row, found in seen.items():
        assert (found.model_input.cpu().int() - exact(sent[row])[1].int()).abs().max() <= OFF[device][0]


def test_a_picture_turned_otherwise_than_pillow_turns_it_is_left_to_it(decoder: Decoder) -> None:
    def turning(files: list[bytes], **options: Any) -> list[Tensor]:
        return [pixels.transpose(1, 2) for pixels in decoder.decode_jpeg(files, **options)]

    assert dataclasses.replace(decoder, decode_jpeg=turning).decode({0: ORDINARY}) == {}


def test_an_odd_profile_does_not_matter(decoder: Decoder) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data = jpeg(photograph(), icc_profile=profile)
    assert (decoder.decode({0: data})[0].model_input.int() - exact(data)[1].int()).abs().max() <= 1


# ----------------------------------------------------------------------------- where there is none


def loaded(monkeypatch: pytest.MonkeyPatch, decode_jpeg: Any) -> Decoder | None:
    monkeypatch.setattr("torchcodec.decoders.decode_jpeg", decode_jpeg)
    return Decoder.load(SETTINGS, torch.device("cpu"))


def test_without_torchcodec_there_is_none(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", None)
    assert Decoder.load(SETTINGS, torch.device("cpu")) is None
    assert "JPEGs are decoded on the CPU" in caplog.text
    assert "pip install torchcodec" in caplog.text


def test_a_decoder_that_fails_is_not_used(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def failing(files: Sequence[bytes], **options: Any) -> list[Tensor]:
        raise RuntimeError("torchcodec was not compiled with nvJPEG support")

    caplog.set_level(logging.INFO)
    assert loaded(monkeypatch, failing) is None
    assert "not compiled with nvJPEG support" in caplog.text
    assert "JPEGs are decoded on the CPU: nvJPEG does not work here" in caplog.text


def test_a_decoder_that_mixes_up_colours_is_not_used(
    decoder: Decoder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def swapped(files: list[bytes], **options: Any) -> list[Tensor]:
        return [pixels.flip(0) for pixels in decoder.decode_jpeg(files, **options)]

    assert loaded(monkeypatch, swapped) is None
    assert "grey levels off" in caplog.text


# ----------------------------------------------------------------------------- in the pipeline


@pytest.fixture(scope="module")
def pipelines() -> tuple[Pipeline, Pipeline]:
    """One that decodes JPEGs as on a GPU, and one that decodes all with Pillow, to the pixel."""
    model = oracles.seeded(network.build("resnet18", SETTINGS.num_classes), seed=3)
    labels = Labels(tuple("abcdefghij"))
    exactly = dataclasses.replace(SETTINGS, decoding="exact")
    ours, theirs = (Pipeline(model, labels, settings, torch.device("cpu")) for settings in (SETTINGS, exactly))
    assert ours.decoder is None  # as it is on a CPU
    ours.decoder = decoder_on("cpu")
    return ours, theirs


def answers(pipeline: Pipeline, requests: list[Request]) -> list[Result | RequestError]:
    forward = pipeline.inference(pipeline.preprocess(requests))
    with torch.enable_grad():
        return pipeline.results(pipeline.explain(forward))


def test_a_batch_of_all_kinds(pipelines: tuple[Pipeline, Pipeline], monkeypatch: pytest.MonkeyPatch) -> None:
    # As large as the network sees: where nothing is resized the same grey levels lead to the same maps.
    requests = [
        Request(jpeg(photograph(128, 96)), Options()),
        Request(png(photograph(128, 96, 1)), Options(explain=2)),
        Request(broken(), Options()),
        Request(jpeg(photograph(128, 96, 2)), Options(explain=3)),
        Request(jpeg(photograph(128, 96, 3)), Options(overlay="png")),
    ]
    ours, theirs = pipelines
    expected = answers(theirs, requests)
    by_pillow: list[bytes] = []
    decode = images.decode

    def noted(data: bytes, settings: Settings, *, whole: bool) -> images.Picture:
        by_pillow.append(data)
        return decode(data, settings, whole=whole)

    monkeypatch.setattr(images, "decode", noted)
    got = answers(ours, requests)
    assert {requests.index(request) for request in requests if request.image in by_pillow} == {1, 2, 4}
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


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpus_pipeline_decodes_on_it(pipelines: tuple[Pipeline, Pipeline]) -> None:
    model = oracles.seeded(network.build("resnet18", SETTINGS.num_classes), seed=3).cuda()
    pipeline = Pipeline(model, Labels(tuple("abcdefghij")), SETTINGS, torch.device("cuda"))
    assert pipeline.decoder is not None
    requests = [Request(jpeg(photograph(seed=seed)), Options()) for seed in range(3)]
    (item, *_) = pipeline.preprocess(requests).answerable
    assert item.seen.model_input.is_cuda
    for mine, other in zip(answers(pipeline, requests), answers(pipelines[1], requests), strict=True):
        assert isinstance(mine, Result)
        assert isinstance(other, Result)
        assert mine.predictions[0].index == other.predictions[0].index
