"""The handler reads each protocol's request; its answers are parsed to one form."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gradcam.message import ServedModel
from gradcam.protocols import kserve_v1, kserve_v2
from gradcam.protocols import single_image as plain
from tests.support.answers import DOCUMENT, document
from tools.load.answer import MalformedAnswer
from tools.load.protocols import PROTOCOLS
from tools.load.request import TestRequest

IMAGE = b"\x89PNG and more"


def read_by_handler(protocol: str, request: TestRequest) -> Any:
    """Return the handler's request; TorchServe reads forms, so those are checked by their parts."""
    if protocol == "raw":
        options = {name.removeprefix("Gradcam-").lower(): value for name, value in request.headers.items()}
        return plain.read({"body": request.body}, {"targets": options["targets"]}, "").requests[0]
    parsed = json.loads(request.body)
    if protocol == "json":
        return plain.read(parsed, {}, "").requests[0]
    if protocol == "v1":
        return kserve_v1.read(parsed, {}, 1, explain=False).requests[0]
    return kserve_v2.read(parsed, {}, ServedModel("m", "1", "0123456789ab"), 1).requests[0]


@pytest.mark.parametrize("protocol", ["raw", "json", "v1", "v2"])
def test_request(protocol: str) -> None:
    request = read_by_handler(protocol, PROTOCOLS[protocol].request(IMAGE, {"targets": "3,7"}))

    assert request.image == IMAGE
    assert request.options.targets == (3, 7)


def test_form() -> None:
    request = PROTOCOLS["form"].request(IMAGE, {"targets": "3,7"})

    _, boundary = request.headers["Content-Type"].split("multipart/form-data; boundary=")
    file, option, _ = (part.split(b"\r\n\r\n") for part in request.body.split(f"--{boundary}".encode())[1:])
    assert b'name="data"; filename="image"' in file[0]
    assert file[1] == IMAGE + b"\r\n"
    assert b'name="targets"' in option[0]
    assert option[1] == b"3,7\r\n"


def test_paths() -> None:
    assert [protocol.path("a b") for protocol in PROTOCOLS.values()] == [
        *["/predictions/a%20b"] * 3,
        "/v1/models/a%20b:predict",
        "/v2/models/a%20b/infer",
    ]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b"{}", b'{"predictions": [1], "outputs": [1]}', b"\xff"], ids=repr
)
def test_malformed_answer(protocol: str, body: bytes) -> None:
    with pytest.raises(MalformedAnswer, match="not the answer of a Grad-CAM model"):
        PROTOCOLS[protocol].parse(body)


def test_v1_answer_with_several_predictions_is_malformed() -> None:
    with pytest.raises(MalformedAnswer):
        PROTOCOLS["v1"].parse(json.dumps({"predictions": [DOCUMENT, DOCUMENT]}).encode())


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_protocol_parses_to_the_same_form(protocol: str) -> None:
    answer = PROTOCOLS[protocol].parse(json.dumps(document(protocol)).encode())

    assert [(entry.index, entry.label, entry.probability) for entry in answer.predictions] == [
        (7, "cat", 0.6),
        (3, "dog", 0.25),
    ]
    cat, dog = answer.explained
    assert (cat.index, cat.evidence, cat.peak, cat.overlay) == (7, True, (31, 4), None)
    assert (dog.index, dog.evidence, dog.peak) == (3, False, None)
    assert [cat.probability, dog.probability] == ([None, None] if protocol == "v2" else [0.6, 0.25])
    assert cat.heatmap.tolist() == [[0.0, 1.0, 0.2], [0.1, 0.3, 0.4]]
    assert not dog.heatmap.any()
    assert answer.region == (10, 0, 50, 40)
    assert answer.size == (None if protocol == "v2" else (60, 40))
