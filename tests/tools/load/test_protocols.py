"""Each door's question is what the handler reads, its answer comes out in one form, and what is wrong is found."""

from __future__ import annotations

import copy
import io
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gradcam.protocols import kserve
from gradcam.protocols import single_image as plain
from tools.load import protocols as doors
from tools.load.protocols import DOORS, OPTIONS, Malformed, Wanted, wrong
from tools.load.traffic import Question

PICTURE = b"\x89PNG and more"


def jpeg(width: int, height: int) -> str:
    file = io.BytesIO()
    Image.new("RGB", (width, height)).save(file, "jpeg")
    return f"data:image/jpeg;base64,{doors.text(file.getvalue())}"


def explained(index: int, label: str, probability: float, heatmap: list[list[float]]) -> dict[str, Any]:
    evidence = bool(np.max(heatmap) > 0)
    return {
        "index": index,
        "label": label,
        "probability": probability,
        "evidence": evidence,
        "heatmap": heatmap,
        "peak": [31, 4] if evidence else None,
    }


DOCUMENT: dict[str, Any] = {
    "predictions": [
        {"index": 7, "label": "cat", "probability": 0.6},
        {"index": 3, "label": "dog", "probability": 0.25},
    ],
    "explanations": [
        explained(7, "cat", 0.6, [[0.0, 1.0, 0.2], [0.1, 0.3, 0.4]]),
        explained(3, "dog", 0.25, [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]),
    ],
    "method": "gradcam",
    "layer": "layer4",
    "image": {"width": 60, "height": 40, "region": [10, 0, 50, 40]},
}
KNOWN = doors.of_document(DOCUMENT)

TENSORS = {
    "index": ("INT64", [1, 2], [7, 3]),
    "label": ("BYTES", [1, 2], ["cat", "dog"]),
    "probability": ("FP32", [1, 2], [0.6, 0.25]),
    "target": ("INT64", [1, 2], [7, 3]),
    "evidence": ("BOOL", [1, 2], [True, False]),
    "peak": ("INT64", [1, 2, 2], [31, 4, -1, -1]),
    "heatmap": ("FP32", [1, 2, 2, 3], [0.0, 1.0, 0.2, 0.1, 0.3, 0.4, *[0.0] * 6]),
    "region": ("INT64", [1, 4], [10, 0, 50, 40]),
}


# ----------------------------------------------------------------------------- questions


def read_by_the_handler(door: str, question: Question) -> Any:
    """What the handler makes of it; a form is TorchServe's to read, so there this is only about the parts."""
    if door == "raw":
        options = {name.removeprefix("Gradcam-").lower(): value for name, value in question.headers.items()}
        return plain.read({"body": question.body}, {"targets": options["targets"]}, "").requests[0]
    document = json.loads(question.body)
    if door == "json":
        return plain.read(document, {}, "").requests[0]
    if door == "v1":
        return kserve.read_v1(document, {}, 1, explain=False).requests[0]
    return kserve.read_v2(document, {}, 1, kserve.Model("m", "1")).requests[0]


@pytest.mark.parametrize("door", ["raw", "json", "v1", "v2"])
def test_question(door: str) -> None:
    request = read_by_the_handler(door, DOORS[door].ask(PICTURE, {"targets": "3,7"}))

    assert request.image == PICTURE
    assert request.options.targets == (3, 7)


def test_form() -> None:
    question = DOORS["form"].ask(PICTURE, {"targets": "3,7"})

    _, boundary = question.headers["Content-Type"].split("multipart/form-data; boundary=")
    file, option, _ = (part.split(b"\r\n\r\n") for part in question.body.split(f"--{boundary}".encode())[1:])
    assert b'name="data"; filename="picture"' in file[0]
    assert file[1] == PICTURE + b"\r\n"
    assert b'name="targets"' in option[0]
    assert option[1] == b"3,7\r\n"


def test_paths() -> None:
    assert [door.path("a b") for door in DOORS.values()] == [
        *["/predictions/a%20b"] * 3,
        "/v1/models/a%20b:predict",
        "/v2/models/a%20b/infer",
    ]


def test_options() -> None:
    assert {name: make(KNOWN) for name, make in OPTIONS.items()} == {
        "default": Wanted({}, 1),
        "targets": Wanted({"targets": "3,7"}, (3, 7)),
        "explain": Wanted({"explain": "2"}, 2),  # there are only two
        "overlay": Wanted({"overlay": "jpeg"}, 1, overlay=True),
        "none": Wanted({"explain": "0"}, 0),
    }


# ----------------------------------------------------------------------------- answers


def answer(door: str) -> Any:
    if door == "v1":
        return {"predictions": [DOCUMENT]}
    if door == "v2":
        return {
            "outputs": [
                dict(zip(("name", "datatype", "shape", "data"), (n, *t), strict=True)) for n, t in TENSORS.items()
            ]
        }
    return DOCUMENT


@pytest.mark.parametrize("door", DOORS)
def test_answer(door: str) -> None:
    seen = DOORS[door].read(json.dumps(answer(door)).encode())

    assert [(entry.index, entry.label, entry.probability) for entry in seen.predictions] == [
        (7, "cat", 0.6),
        (3, "dog", 0.25),
    ]
    cat, dog = seen.explained
    assert (cat.index, cat.evidence, cat.peak, cat.overlay) == (7, True, (31, 4), None)
    assert (dog.index, dog.evidence, dog.peak) == (3, False, None)
    assert cat.heatmap.tolist() == [[0.0, 1.0, 0.2], [0.1, 0.3, 0.4]]
    assert not dog.heatmap.any()
    assert seen.region == (10, 0, 50, 40)
    assert seen.size == (None if door == "v2" else (60, 40))
    assert wrong(seen, Wanted(classes=(7, 3)), KNOWN) is None


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b"{}", b'{"predictions": [1], "outputs": [1]}', b"\xff"], ids=repr
)
def test_not_an_answer(door: str, body: bytes) -> None:
    with pytest.raises(Malformed, match="not the answer of a Grad-CAM model"):
        DOORS[door].read(body)


def test_several_answers_are_not_one() -> None:
    with pytest.raises(Malformed):
        DOORS["v1"].read(json.dumps({"predictions": [DOCUMENT, DOCUMENT]}).encode())


# ----------------------------------------------------------------------------- right and wrong


def changed(change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    document = copy.deepcopy(DOCUMENT)
    change(document)
    return document


def test_right_to_rounding() -> None:
    document = changed(lambda own: own["predictions"][0].update(probability=0.61))
    document["explanations"][0]["heatmap"][0][2] = 0.23

    assert wrong(doors.of_document(document), Wanted(classes=2), KNOWN) is None


def test_classes_that_are_equally_probable_may_change_places() -> None:
    document = changed(lambda own: own["predictions"][1].update(index=4, label="rat", probability=0.245))
    document["explanations"].pop()

    assert wrong(doors.of_document(document), Wanted(), KNOWN) is None


@pytest.mark.parametrize(
    ("flaw", "change"),
    [
        ("another size or region", lambda own: own["image"].update(width=61)),
        ("another size or region", lambda own: own["image"].update(region=[11, 0, 51, 40])),
        ("other probabilities", lambda own: own["predictions"][0].update(probability=0.65)),
        ("other probabilities", lambda own: own["predictions"].pop()),
        ("another label", lambda own: own["predictions"][1].update(label="cat")),
        ("other classes", lambda own: own["predictions"][0].update(index=4, label="rat")),
        ("other classes explained", lambda own: own["explanations"].reverse()),
        ("other classes explained", lambda own: own["explanations"].pop()),
        ("another map", lambda own: own["explanations"][0]["heatmap"][1].reverse()),
        ("another map", lambda own: own["explanations"][1].update(own["explanations"][0], index=3)),
        ("another shape of the map", lambda own: own["explanations"][0]["heatmap"].pop()),
        ("another shape of the map", lambda own: own["explanations"][0].update(heatmap=[[]])),
        ("a map that is not from 0 to 1", lambda own: own["explanations"][0].update(heatmap=[[0.0] * 3] * 2)),
        ("a map that is not from 0 to 1", lambda own: own["explanations"][0].update(heatmap=[[1.0, -1.0, 0.0]] * 2)),
        ("a map that is not from 0 to 1", lambda own: own["explanations"][0].update(heatmap=[[1, np.nan, 0]] * 2)),
        ("a map that is not from 0 to 1", lambda own: own["explanations"][0].update(evidence=False, peak=None)),
        ("a peak without evidence, or none with it", lambda own: own["explanations"][0].update(peak=None)),
        ("a peak without evidence, or none with it", lambda own: own["explanations"][1].update(peak=[31, 4])),
        ("a peak outside the region", lambda own: own["explanations"][0].update(peak=[50, 4])),
        ("an overlay that nobody asked for", lambda own: own["explanations"][0].update(overlay=jpeg(60, 40))),
    ],
)  # fmt: skip
def test_wrong(flaw: str, change: Callable[[dict[str, Any]], object]) -> None:
    assert wrong(doors.of_document(changed(change)), Wanted(classes=(7, 3)), KNOWN) == flaw


@pytest.mark.parametrize("overlay", [None, jpeg(40, 60), "data:image/jpeg;base64,AAAA"])
def test_wrong_overlay(overlay: str | None) -> None:
    document = changed(lambda own: own["explanations"].pop())
    assert wrong(doors.of_document(document), OPTIONS["overlay"](KNOWN), KNOWN) == "no overlay of the picture"

    document["explanations"][0].update({} if overlay is None else {"overlay": overlay})
    assert wrong(doors.of_document(document), OPTIONS["overlay"](KNOWN), KNOWN) == "no overlay of the picture"

    document["explanations"][0].update(overlay=jpeg(60, 40))
    assert wrong(doors.of_document(document), OPTIONS["overlay"](KNOWN), KNOWN) is None
