"""What an overlay states about its origin, read by Pillow and OpenCV."""

from __future__ import annotations

import dataclasses
import io
import json

import cv2
import numpy as np
import pytest
from PIL import Image

import gradcam
from gradcam.explain import overlay, provenance
from gradcam.explain.provenance import Provenance
from gradcam.options import Encoding

ORIGIN = Provenance(
    model="hats",
    version="2.0",
    weights="0123456789ab",
    index=17,
    label='Eichelh\u00e4her "\u732b"',
    probability=0.123456789,
    method="gradcam",
    layers=("layer3", "layer4"),
    strength=2.5,
    time="2026-01-02T03:04:05Z",
)
ENTRIES = {
    "Software": f"gradcam-serving {gradcam.__version__}",
    "Creation Time": "2026-01-02T03:04:05Z",
    "Model": "hats",
    "Version": "2.0",
    "Weights": "0123456789ab",
    "Index": "17",
    "Label": 'Eichelh\u00e4her "\u732b"',
    "Probability": "0.123457",
    "Method": "gradcam",
    "Layer": "layer3,layer4",
    "Strength": "2.5",
    "Evidence": "for the class",
}


def encoded(encoding: Encoding) -> bytes:
    return overlay.encode(np.random.default_rng(0).integers(0, 256, (33, 47, 3), dtype=np.uint8), encoding)


def stated(data: bytes) -> dict[str, str]:
    """Return what a file states, as Pillow reads it; Pillow checks the checksums of the chunks."""
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        if image.format == "PNG":
            return {key: str(text) for key, text in image.info.items()}
        comment: dict[str, str] = json.loads(image.info["comment"])
        return comment


@pytest.mark.parametrize("encoding", ["png", "jpeg"])
def test_file_states_its_origin(encoding: Encoding) -> None:
    assert stated(provenance.embed(encoded(encoding), encoding, ORIGIN)) == ENTRIES


@pytest.mark.parametrize("encoding", ["png", "jpeg"])
def test_pixels_are_unchanged(encoding: Encoding) -> None:
    plain = encoded(encoding)
    before, after = (
        cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        for data in (plain, provenance.embed(plain, encoding, ORIGIN))
    )
    assert before is not None
    assert after is not None
    assert np.array_equal(before, after)


def test_counterfactual_states_that_the_evidence_is_against_the_class() -> None:
    against = dataclasses.replace(ORIGIN, method="counterfactual")
    assert against.entries()["Evidence"] == "against the class"


def test_contrast_states_the_other_class() -> None:
    assert dataclasses.replace(ORIGIN, versus="tabby (class 281)").entries()["Versus"] == "tabby (class 281)"


@pytest.mark.parametrize("encoding", ["png", "jpeg"])
@pytest.mark.parametrize("label", ["", "\0", "\ud800", "x" * 100_000, "\n\r"])
def test_file_is_valid_whatever_the_label(label: str, encoding: Encoding) -> None:
    data = provenance.embed(encoded(encoding), encoding, dataclasses.replace(ORIGIN, label=label))
    assert stated(data)["Method"] == "gradcam"
