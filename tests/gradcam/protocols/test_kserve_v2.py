"""KServe's V2 protocol over HTTP and gRPC's ModelInfer, as documented, and their errors."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gradcam.errors import RequestError
from gradcam.message import Reply, Request, RequestGroup
from gradcam.options import Options
from gradcam.protocols import dispatch
from gradcam.protocols.dispatch import Payload
from tests.support.kserve import (
    BASE64,
    IMAGES,
    MAX_INSTANCES,
    MAX_UNPACKED,
    MODEL,
    NO_LIMIT,
    NOT_AN_IMAGE,
    UNKNOWN,
    answer,
    hats,
    infer,
    outputs,
    parse,
    rejection,
    requests,
)

TENSOR = {"name": "image", "shape": [1], "datatype": "BYTES", "data": [BASE64[0]]}


def test_v2_has_a_tensor_of_images() -> None:
    expected = [Request(image, Options(topk=2), images_in_request=3) for image in IMAGES]

    assert requests(infer(*BASE64, parameters={"topk": 2})) == expected
    assert requests(infer(*([data] for data in BASE64), shape=[3, 1]), gradcam_topk="2") == expected
    assert requests(infer(*BASE64, shape=[3.0], parameters={"topk": 2.0})) == expected
    of_tensor = infer(*BASE64, parameters={"topk": 1})
    of_tensor["inputs"][0]["parameters"] = {"topk": 2}
    assert requests(of_tensor) == expected


@pytest.mark.parametrize(
    ("body", "status", "code", "reason"),
    [
        ({"inputs": []}, 400, "invalid_request", "a list of one tensor"),
        ({"inputs": TENSOR}, 400, "invalid_request", "a list of one tensor"),
        ({"inputs": [7]}, 400, "invalid_request", "a list of one tensor"),
        ({"inputs": [TENSOR, TENSOR]}, 400, "invalid_request", "a list of one tensor"),
        ({"inputs": [{**TENSOR, "name": []}]}, 400, "invalid_request", "name must be text, got []"),
        (
            {"inputs": [{**TENSOR, "datatype": "FP32"}]},
            400,
            "invalid_request",
            "must be BYTES (encoded images)",
        ),
        ({"inputs": [{**TENSOR, "data": BASE64[0]}]}, 400, "invalid_request", '"data": ["<base64>", …]'),
        ({"inputs": [{**TENSOR, "data": []}]}, 400, "invalid_request", "empty"),
        ({"inputs": [{**TENSOR, "shape": [2]}]}, 400, "invalid_request", "must be [1], the number of images"),
        ({"inputs": [{**TENSOR, "shape": [-1, -1]}]}, 400, "invalid_request", "got [-1, -1]"),
        ({"inputs": [{**TENSOR, "shape": [-1, 2]}]}, 400, "invalid_request", "got [-1, 2]"),
        ({"inputs": [{**TENSOR, "shape": [-2]}]}, 400, "invalid_request", "got [-2]"),
        ({"inputs": [{**TENSOR, "shape": [0]}]}, 400, "invalid_request", "got [0]"),
        ({"inputs": [{**TENSOR, "shape": [True]}]}, 400, "invalid_request", "got [True]"),
        ({"inputs": [{**TENSOR, "shape": []}]}, 400, "invalid_request", "got []"),
        ({"inputs": [{**TENSOR, "shape": [1] * 9}]}, 400, "invalid_request", "must be [1]"),
        ({"inputs": [{**TENSOR, "shape": 1}]}, 400, "invalid_request", "got 1"),
        (infer(*BASE64[:1] * 5), 422, "too_many_instances", "at most 4 images, got 5"),
        (infer(BASE64[0], id=7), 400, "invalid_request", "id must be text, got 7"),
        (infer(BASE64[0], outputs={}), 400, "invalid_request", 'must be a list of {"name": …}, got {}'),
        (infer(BASE64[0], outputs=["label"]), 400, "invalid_request", "Unknown output None"),
        (infer(BASE64[0], outputs=[{"name": []}]), 400, "invalid_request", "Unknown output []"),
        (infer(BASE64[0], outputs=[{"name": "lable"}]), 400, "invalid_request", "did you mean 'label'"),
        (infer(BASE64[0], parameters="topk"), 400, "invalid_request", "an object of options"),
        (infer(BASE64[0], output=[]), 400, "invalid_request", "did you mean 'outputs'"),
    ],
    ids=str,
)
def test_v2_rejections(body: Any, status: int, code: str, reason: str) -> None:
    error = rejection(body)
    assert (error.status, error.code) == (status, code)
    assert reason in str(error)
    assert len(str(error)) < 400


@pytest.mark.parametrize("name", ["image", "input-0", "312a4eb0-0ca7-4803-a101-a6d2c18486fe", ""])
@pytest.mark.parametrize("shape", [[-1], [1], [1, -1], [-1, 1]], ids=str)
def test_v2_a_tensor_may_have_any_name_and_an_unknown_size(name: str, shape: list[int]) -> None:
    assert requests({"inputs": [{**TENSOR, "name": name, "shape": shape}]}) == [Request(IMAGES[0], Options())]


def test_v2_members_and_parameters_of_standard_clients_have_no_effect() -> None:
    parameters = {
        "binary_data_output": False,
        "priority": 1,
        "timeout": 1000,
        "sequence_id": "a",
        "sequence_start": True,
        "sequence_end": False,
        "topk": 2,
    }
    body = infer(BASE64[0], model_name="other", model_version="9", parameters=parameters)
    assert requests(body) == [Request(IMAGES[0], Options(topk=2))]


def test_v2_an_error_is_a_text_with_the_code_beside_it() -> None:
    reply, document = answer(infer(*BASE64[:2]), NOT_AN_IMAGE, UNKNOWN)
    assert (reply.status, reply.errors) == (400, (NOT_AN_IMAGE, UNKNOWN))
    assert document == {"error": "these 3 bytes are not an image", "code": "undecodable_image"}


@pytest.mark.parametrize("body", [{"inputs": []}, infer(BASE64[0], output=[]), infer(*BASE64[:1] * 5)], ids=str)
def test_v2_an_error_of_the_whole_request_is_a_text_too(body: Any) -> None:
    error = rejection(body)
    assert answer(body, error)[1] == {"error": str(error), "code": error.code}


def test_v2_an_invalid_parameter_fails_every_image() -> None:
    for error in parse(infer(*BASE64[:2], parameters={"topkk": 1})).requests:
        assert isinstance(error, RequestError)
        assert error.code == "invalid_option"


def test_parameters_replace_the_headers_that_they_exclude() -> None:
    (request,) = requests(infer(BASE64[0], parameters={"targets": [7]}), gradcam_explain="2")

    assert request.options == Options(targets=(7,))


def test_parameters_of_the_tensor_replace_those_of_the_request() -> None:
    body = infer(BASE64[0], parameters={"targets": [7]})
    body["inputs"][0]["parameters"] = {"explain": 2}

    assert requests(body)[0].options == Options(explain=2)


# ----------------------------------------------------------------------------- gRPC's ModelInfer


def call(*tensors: Any) -> RequestGroup:
    body = {"id": "", "model_name": "hats", "inputs": list(tensors)}
    return dispatch.parse(Payload(body, grpc=True), MODEL, MAX_INSTANCES, MAX_UNPACKED)


def tensors_of(reply: Reply) -> dict[str, Any]:
    """Check what TorchServe needs to translate a reply; without it, TorchServe kills the worker."""
    document = json.loads(str(reply.body))
    assert (reply.status, reply.content_type) == (200, "application/json")
    assert (document["id"], document["model_name"], document["model_version"]) == ("", "hats", "2.0")
    return outputs(document)


def test_model_infer_replies_with_tensors() -> None:
    tensor = infer(*BASE64[:2])["inputs"][0]
    group = call(tensor)
    first, second = group.requests
    assert [first, second] == [Request(image, Options(), images_in_request=2) for image in IMAGES[:2]]
    assert isinstance(first, Request)

    named = tensors_of(dispatch.render(group, [hats(first), UNKNOWN], NO_LIMIT))

    over_http = answer(infer(*BASE64[:2]), hats(first), UNKNOWN)[1]
    assert named == outputs(over_http)
    assert named["label"]["data"] == ["cowboy hat", "tabby", "", ""]


def test_model_infer_reports_in_a_tensor_that_every_image_failed() -> None:
    group = call(infer(*BASE64[:2])["inputs"][0])

    reply = dispatch.render(group, [NOT_AN_IMAGE, UNKNOWN], NO_LIMIT)

    named = tensors_of(reply)
    assert reply.errors == (NOT_AN_IMAGE, UNKNOWN)
    assert list(named) == ["error"]
    assert (named["error"]["datatype"], named["error"]["shape"]) == ("BYTES", [2])
    assert [json.loads(entry)["error"]["code"] for entry in named["error"]["data"]] == [
        "undecodable_image",
        "unknown_class",
    ]


@pytest.mark.parametrize(
    ("tensors", "code"),
    [
        ([], "invalid_request"),
        ([TENSOR, TENSOR], "invalid_request"),
        ([{"name": "image", "shape": [1], "datatype": "NONE"}], "invalid_request"),
        ([{**TENSOR, "shape": [7]}], "invalid_request"),
        ([{**TENSOR, "data": []}], "invalid_request"),
        ([{**TENSOR, "shape": [5], "data": BASE64[:1] * 5}], "too_many_instances"),
    ],
    ids=str,
)
def test_model_infer_rejects_in_a_tensor(tensors: list[Any], code: str) -> None:
    group = call(*tensors)
    (error,) = group.requests
    assert isinstance(error, RequestError)

    named = tensors_of(dispatch.render(group, [error], NO_LIMIT))

    (document,) = named["error"]["data"]
    assert json.loads(document)["error"]["code"] == code


def test_model_infer_reports_in_a_tensor_that_the_reply_is_too_large() -> None:
    group = call(TENSOR)
    (request,) = group.requests
    assert isinstance(request, Request)

    named = tensors_of(dispatch.render(group, [hats(request)], 500))

    (document,) = named["error"]["data"]
    assert json.loads(document)["error"]["code"] == "answer_too_large"


def test_model_infer_says_that_torchserve_drops_raw_contents() -> None:
    (error,) = call({"name": "image", "shape": [1], "datatype": "BYTES", "data": []}).requests
    assert "TorchServe drops raw_input_contents" in str(error)
    assert "contents.bytes_contents" in str(error)
