"""The output tensors of KServe's V2 protocol."""

from __future__ import annotations

import dataclasses
import json

from gradcam.explain.boxes import Box
from tests.support.kserve import (
    BASE64,
    CAT,
    HAT,
    JAY,
    NOT_AN_IMAGE,
    UNKNOWN,
    answer,
    cats,
    hats,
    infer,
    outputs,
    requests,
    result,
)


def test_v2_replies_with_tensors() -> None:
    body = infer(*BASE64[:2], id="request 1")
    first, second = requests(body)

    reply, document = answer(body, hats(first), cats(second))

    assert (reply.status, reply.content_type, reply.errors) == (200, "application/json", ())
    named = outputs(document)
    assert document == {
        "model_name": "hats",
        "model_version": "2.0",
        "id": "request 1",
        "parameters": {"method": "layercam", "layer": "layer4,layer3", "weights": "0123456789ab"},
        "outputs": list(named.values()),
    }
    assert named == {
        "index": {"datatype": "INT64", "shape": [2, 2], "data": [515, 281, 281, 17]},
        "label": {"datatype": "BYTES", "shape": [2, 2], "data": ["cowboy hat", "tabby", "tabby", "jay"]},
        "probability": {"datatype": "FP32", "shape": [2, 2], "data": [0.615723, 0.25, 0.25, 1e-9]},
        "target": {"datatype": "INT64", "shape": [2, 2], "data": [515, 17, 281, 281]},
        "evidence": {"datatype": "BOOL", "shape": [2, 2], "data": [True, False, True, True]},
        "peak": {"datatype": "INT64", "shape": [2, 2, 2], "data": [12, 7, -1, -1, 0, 0, 0, 0]},
        "strength": {"datatype": "FP32", "shape": [2, 2], "data": [2.5, 0, 1.23457e-7, 1.23457e-7]},
        "heatmap": {
            "datatype": "FP32",
            "shape": [2, 2, 2, 3],
            "data": [0, 1, 0.5, 0.25, 0, 0.333333, *[0] * 6, *[1] * 12],
        },
        "region": {"datatype": "INT64", "shape": [2, 4], "data": [1, 2, 31, 42] * 2},
    }


def test_v2_overlays_are_data_urls() -> None:
    body = infer(BASE64[0], parameters={"overlay": "jpeg", "heatmap": "none"})
    (request,) = requests(body)

    named = outputs(answer(body, hats(request))[1])

    assert named["overlay"] == {
        "datatype": "BYTES",
        "shape": [1, 2],
        "data": ["data:image/jpeg;base64,aGF0", "data:image/jpeg;base64,amF5"],
    }
    assert "heatmap" not in named


def test_v2_contrast_and_boxes_are_tensors_if_requested() -> None:
    body = infer(*BASE64[:2], parameters={"versus": 281, "boxes": 0.5, "heatmap": "none"})
    first, _ = requests(body)
    answered = hats(first)
    hat, jay = answered.explanations
    hat = dataclasses.replace(hat, versus=CAT, boxes=[Box((1, 2, 3, 4), 3, 0.75)])
    jay = dataclasses.replace(jay, versus=CAT, boxes=[])

    named = outputs(answer(body, dataclasses.replace(answered, explanations=[hat, jay]), UNKNOWN)[1])

    assert named["versus"] == {"datatype": "INT64", "shape": [2, 2], "data": [281, 281, -1, -1]}
    boxes = '[{"box":[1,2,3,4],"area":3,"mean":0.75}]'
    assert named["boxes"] == {"datatype": "BYTES", "shape": [2, 2], "data": [boxes, "[]", "", ""]}


def test_v2_omits_tensors_of_explanations_without_any() -> None:
    body = infer(BASE64[0], parameters={"explain": 0})
    (request,) = requests(body)

    named = outputs(answer(body, result(request, [HAT, CAT], []))[1])

    assert list(named) == ["index", "label", "probability", "region"]


def test_v2_pads_images_with_fewer_explanations() -> None:
    """A threshold may select no class of the first image, two of the second, and one of the third."""
    body = infer(*BASE64, parameters={"threshold": 0.5, "overlay": "png"})
    none, two, one = requests(body)
    single = result(one, [CAT, JAY], cats(one).explanations[:1])

    named = outputs(answer(body, result(none, [HAT, CAT], []), hats(two), single)[1])

    assert named["target"] == {"datatype": "INT64", "shape": [3, 2], "data": [-1, -1, 515, 17, 281, -1]}
    assert named["evidence"]["data"] == [False, False, True, False, True, False]
    assert named["peak"]["data"] == [*[-1] * 4, 12, 7, -1, -1, 0, 0, -1, -1]
    assert named["heatmap"]["shape"] == [3, 2, 2, 3]
    assert named["heatmap"]["data"] == [*[0] * 12, 0, 1, 0.5, 0.25, 0, 0.333333, *[0] * 6, *[1] * 6, *[0] * 6]
    assert named["overlay"]["data"][:2] == ["", ""]
    assert named["overlay"]["data"][-1] == ""


def test_v2_replies_with_the_requested_outputs() -> None:
    body = infer(BASE64[0], outputs=[{"name": "label"}, {"name": "error"}, {"name": "heatmap", "parameters": {}}])
    (request,) = requests(body)

    assert list(outputs(answer(body, hats(request))[1])) == ["label", "heatmap"]


def test_v2_one_bad_image_fails_alone() -> None:
    body = infer(*BASE64, parameters={"overlay": "png"})
    *_, third = requests(body)

    reply, document = answer(body, NOT_AN_IMAGE, UNKNOWN, cats(third))

    named = outputs(document)
    assert (reply.status, reply.errors) == (200, (NOT_AN_IMAGE, UNKNOWN))
    assert named["index"]["data"] == [-1, -1, -1, -1, 281, 17]
    assert named["label"]["data"] == ["", "", "", "", "tabby", "jay"]
    assert named["probability"]["data"] == [0, 0, 0, 0, 0.25, 1e-9]
    assert named["target"]["data"] == [-1, -1, -1, -1, 281, 281]
    assert named["evidence"]["data"] == [False] * 4 + [True] * 2
    assert named["peak"]["data"] == [-1] * 8 + [0] * 4
    assert named["strength"]["data"] == [0] * 4 + [1.23457e-7] * 2
    assert named["heatmap"] == {"datatype": "FP32", "shape": [3, 2, 2, 3], "data": [0] * 24 + [1] * 12}
    assert named["overlay"]["data"] == [""] * 4 + ["data:image/png;base64,Y2F0"] * 2
    assert named["region"]["data"] == [0] * 8 + [1, 2, 31, 42]
    assert (named["error"]["shape"], named["error"]["data"][2]) == ([3], "")
    assert [json.loads(entry)["error"]["code"] for entry in named["error"]["data"][:2]] == [
        "undecodable_image",
        "unknown_class",
    ]


def test_v2_fails_if_every_image_fails() -> None:
    reply, document = answer(infer(*BASE64[:2]), NOT_AN_IMAGE, UNKNOWN)

    assert (reply.status, reply.errors) == (400, (NOT_AN_IMAGE, UNKNOWN))
    assert document == {"error": "these 3 bytes are not an image", "code": "undecodable_image"}
