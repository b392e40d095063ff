"""KServe's V1 protocol, as its documentation shows it, and its errors."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from gradcam.errors import RequestError
from gradcam.message import Request
from gradcam.options import Options
from gradcam.protocols import dispatch
from tests.support.kserve import (
    BASE64,
    IMAGES,
    NO_LIMIT,
    NOT_AN_IMAGE,
    UNKNOWN,
    answer,
    hats,
    parse,
    rejection,
    requests,
)


def test_v1_has_several_images() -> None:
    body = {"instances": [{"image": {"b64": BASE64[0]}}, {"data": BASE64[1]}, BASE64[2]]}

    assert requests(body) == [Request(image, Options(), images_in_request=3) for image in IMAGES]


def test_v1_options_of_an_instance_replace_those_of_all() -> None:
    body = {
        "instances": [{"image": BASE64[0]}, {"image": BASE64[1], "topk": 2, "targets": [7]}],
        "parameters": {"topk": 3, "explain": 2},
    }

    first, second = requests(body, gradcam_heatmap="none", gradcam_topk="9")

    assert first.options == Options(topk=3, explain=2, heatmap="none")
    # The instance's targets replace `explain` of all instances.
    assert second.options == Options(topk=2, targets=(7,), heatmap="none")


def test_v1_ignores_accept() -> None:
    assert requests({"instances": [BASE64[0]]}, accept="image/png")[0].accept is None


def test_v1_one_bad_instance_fails_alone() -> None:
    group = parse({"instances": [{"image": BASE64[0]}, {"image": "no base64!"}, {"image": BASE64[2], "topk": 0}]})

    good, bad, worse = group.requests
    assert isinstance(good, Request)
    assert isinstance(bad, RequestError)
    assert isinstance(worse, RequestError)
    reply = dispatch.render(group, [hats(good), bad, worse], NO_LIMIT)
    assert (reply.status, reply.content_type, reply.errors) == (200, "application/json", (bad, worse))
    document = json.loads(str(reply.body))
    assert list(document) == ["predictions"]
    assert document["predictions"][0]["explanations"][0]["peak"] == [12, 7]
    assert document["predictions"][0]["layer"] == ["layer4", "layer3"]
    assert [entry["error"]["code"] for entry in document["predictions"][1:]] == ["invalid_request", "invalid_option"]


def test_v1_fails_if_every_instance_fails() -> None:
    reply, document = answer({"instances": BASE64[:2]}, UNKNOWN, NOT_AN_IMAGE)

    errors = [
        {"error": {"code": "unknown_class", "message": "Unknown class 'cart'"}},
        {"error": {"code": "undecodable_image", "message": "these 3 bytes are not an image"}},
    ]
    assert (reply.status, reply.phrase, reply.errors) == (422, "Unprocessable Entity", (UNKNOWN, NOT_AN_IMAGE))
    assert document == {**errors[0], "predictions": errors}


def test_v1_explain_repeats_the_explanations() -> None:
    group = parse({"instances": BASE64[:2]}, explain=True)
    first, _ = group.requests
    assert isinstance(first, Request)

    document = json.loads(str(dispatch.render(group, [hats(first), UNKNOWN], NO_LIMIT).body))

    assert document["explanations"] == [document["predictions"][0]["explanations"], []]
    assert [entry["index"] for entry in document["explanations"][0]] == [515, 17]


@pytest.mark.parametrize(
    ("body", "status", "code", "reason"),
    [
        ({"instances": []}, 400, "invalid_request", 'must be a list of {"image": "<base64>", …}, got []'),
        ({"instances": {"image": "x"}}, 400, "invalid_request", "must be a list"),
        ({"instances": BASE64[0]}, 400, "invalid_request", "must be a list"),
        ({"instances": BASE64[:1] * 5}, 422, "too_many_instances", "at most 4 images, got 5"),
        ({"instances": BASE64, "parameters": [1]}, 400, "invalid_request", "must be an object of options, got [1]"),
        ({"instances": BASE64, "parameter": {}}, 400, "invalid_request", "did you mean 'parameters'"),
        ({"instances": BASE64, "image": BASE64[0]}, 400, "invalid_request", "Unknown member 'image'"),
    ],
    ids=str,
)
def test_v1_rejections(body: Any, status: int, code: str, reason: str) -> None:
    error = rejection(body)
    assert (error.status, error.code) == (status, code)
    assert reason in str(error)


@pytest.mark.parametrize("instance", [7, None, [BASE64[0]], {}, {"topk": 1}, {"image": None}, "%"], ids=str)
def test_v1_instances_that_are_not_images(instance: Any) -> None:
    bad, good = parse({"instances": [instance, BASE64[1]]}).requests
    assert isinstance(bad, RequestError)
    assert bad.code == "invalid_request"
    assert good == Request(IMAGES[1], Options(), images_in_request=2)


def test_parameters_replace_the_headers_that_they_exclude() -> None:
    (request,) = requests({"instances": [BASE64[0]], "parameters": {"targets": [7]}}, gradcam_explain="2")

    assert request.options == Options(targets=(7,))


def test_further_images_do_not_change_a_request() -> None:
    alone = parse({"image": BASE64[0], "topk": 3}).requests[0]
    assert isinstance(alone, Request)
    assert (
        requests({"instances": [{"image": BASE64[0], "topk": 3}] * 2})
        == [dataclasses.replace(alone, images_in_request=2)] * 2
    )


def test_instances_of_tensorflow_serving() -> None:
    body = {"signature_name": "serving_default", "instances": [{"b64": BASE64[0]}, {"b64": BASE64[1], "topk": 2}]}
    assert requests(body) == [
        Request(IMAGES[0], Options(), images_in_request=2),
        Request(IMAGES[1], Options(topk=2), images_in_request=2),
    ]
