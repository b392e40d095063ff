"""KServe's two protocols, as its documentation shows them, and what can be wrong with either."""

from __future__ import annotations

import base64
import dataclasses
import json
from typing import Any

import numpy as np
import pytest

from gradcam.errors import RequestError, TooLarge, UndecodableImage, UnknownName
from gradcam.images.geometry import Region
from gradcam.message import Explanation, Prediction, Reply, Request, RequestGroup, Result
from gradcam.options import Options
from gradcam.protocols import dispatch as wire
from gradcam.protocols.kserve import Model

PICTURES = [b"\x89PNG one", b"\xff\xd8 two", b"RIFF three"]
BASE64 = [base64.b64encode(picture).decode() for picture in PICTURES]
MOST = 4
HTTP = {"Content-Type": "application/json"}  # it always has headers, gRPC has none
NO_LIMIT = 10**9


def parse(body: Any, headers: dict[str, Any] | None = None) -> RequestGroup:
    return wire.parse({"body": body}, HTTP | (headers or {}), MOST, Model("hats", "2.0"))


def requests(body: Any, headers: dict[str, Any] | None = None) -> list[Request]:
    parsed = parse(body, headers).requests
    assert all(isinstance(request, Request) for request in parsed), parsed
    return [request for request in parsed if isinstance(request, Request)]


def refused(body: Any, headers: dict[str, Any] | None = None) -> RequestError:
    (error,) = parse(body, headers).requests
    assert isinstance(error, RequestError)
    return error


def answer(body: Any, *results: Result | RequestError) -> tuple[Reply, Any]:
    reply = wire.render(parse(body), results, NO_LIMIT)
    assert isinstance(reply.body, str)
    return reply, json.loads(reply.body)


# ----------------------------------------------------------------------------- results

HAT, CAT, JAY = Prediction(515, "cowboy hat", 0.61572345), Prediction(281, "tabby", 0.25), Prediction(17, "jay", 1e-9)
NOT_A_PICTURE = UndecodableImage("these 3 bytes are not a picture")
UNKNOWN = UnknownName("there is no class 'cart'", code="unknown_class")


def result(request: Request, predictions: list[Prediction], explanations: list[Explanation]) -> Result:
    region = Region(1, 2, 31, 42)
    return Result(request, predictions, explanations, "layercam", ("layer4", "layer3"), 33, 44, region)


def hats(request: Request) -> Result:
    explained = Explanation(HAT, np.array([[0, 1, 0.5], [0.25, 0, 1 / 3]], np.float32), (12, 7), b"hat")
    return result(request, [HAT, CAT], [explained, Explanation(JAY, np.zeros((2, 3), np.float32), None, b"jay")])


def cats(request: Request) -> Result:
    explained = Explanation(CAT, np.full((2, 3), 1, np.float32), (0, 0), b"cat")
    return result(request, [CAT, JAY], [explained, explained])


# ----------------------------------------------------------------------------- V1


def test_v1_has_several_pictures() -> None:
    body = {"instances": [{"image": {"b64": BASE64[0]}}, {"data": BASE64[1]}, BASE64[2]]}

    assert requests(body) == [Request(picture, Options(), images_in_request=3) for picture in PICTURES]


def test_v1_options_are_the_instances_or_for_all() -> None:
    body = {
        "instances": [{"image": BASE64[0]}, {"image": BASE64[1], "topk": 2, "targets": [7]}],
        "parameters": {"topk": 3, "explain": 2},
    }

    first, second = requests(body, {"Gradcam-Heatmap": "none", "Gradcam-Topk": "9"})

    assert first.options == Options(topk=3, explain=2, heatmap="none")
    # The classes that it names take the place of the two for all.
    assert second.options == Options(topk=2, targets=(7,), heatmap="none")


def test_parameters_exclude_what_headers_say() -> None:
    headers = {"Gradcam-Explain": "2"}

    (of_v1,) = requests({"instances": [BASE64[0]], "parameters": {"targets": [7]}}, headers)
    (of_v2,) = requests(infer(BASE64[0], parameters={"targets": [7]}), headers)

    assert of_v1.options == of_v2.options == Options(targets=(7,))


def test_parameters_of_the_tensor_exclude_those_of_the_message() -> None:
    body = infer(BASE64[0], parameters={"targets": [7]})
    body["inputs"][0]["parameters"] = {"explain": 2}

    assert requests(body)[0].options == Options(explain=2)


def test_v1_accept_does_not_decide() -> None:
    assert requests({"instances": [BASE64[0]]}, {"Accept": "image/png"})[0].accept is None


def test_v1_one_bad_instance_fails_alone() -> None:
    message = parse({"instances": [{"image": BASE64[0]}, {"image": "no base64!"}, {"image": BASE64[2], "topk": 0}]})

    good, bad, worse = message.requests
    assert isinstance(good, Request)
    assert isinstance(bad, RequestError)
    assert isinstance(worse, RequestError)
    reply = wire.render(message, [hats(good), bad, worse], NO_LIMIT)
    assert (reply.status, reply.content_type, reply.errors) == (200, "application/json", (bad, worse))
    said = json.loads(str(reply.body))
    assert list(said) == ["predictions"]
    assert said["predictions"][0]["explanations"][0]["peak"] == [12, 7]
    assert said["predictions"][0]["layer"] == ["layer4", "layer3"]
    assert [entry["error"]["code"] for entry in said["predictions"][1:]] == ["invalid_request", "invalid_option"]


def test_v1_fails_where_every_instance_does() -> None:
    reply, said = answer({"instances": BASE64[:2]}, UNKNOWN, NOT_A_PICTURE)

    errors = [
        {"error": {"code": "unknown_class", "message": "there is no class 'cart'"}},
        {"error": {"code": "undecodable_image", "message": "these 3 bytes are not a picture"}},
    ]
    assert (reply.status, reply.phrase, reply.errors) == (422, "Unprocessable Entity", (UNKNOWN, NOT_A_PICTURE))
    assert said == {**errors[0], "predictions": errors}


def test_v1_explain_names_the_explanations_once_more() -> None:
    message = parse({"instances": BASE64[:2]}, {"explain": "True"})
    first, _ = message.requests
    assert isinstance(first, Request)

    said = json.loads(str(wire.render(message, [hats(first), UNKNOWN], NO_LIMIT).body))

    assert said["explanations"] == [said["predictions"][0]["explanations"], []]
    assert [entry["index"] for entry in said["explanations"][0]] == [515, 17]


@pytest.mark.parametrize(
    ("body", "status", "code", "reason"),
    [
        ({"instances": []}, 400, "invalid_request", 'must be a list of {"image": "<base64>", …}, not []'),
        ({"instances": {"image": "x"}}, 400, "invalid_request", "must be a list"),
        ({"instances": BASE64[0]}, 400, "invalid_request", "must be a list"),
        ({"instances": BASE64[:1] * 5}, 422, "too_many_instances", "5 pictures, the limit is 4"),
        ({"instances": BASE64, "parameters": [1]}, 400, "invalid_request", "must be an object of options, not [1]"),
        ({"instances": BASE64, "parameter": {}}, 400, "invalid_request", "did you mean 'parameters'"),
        ({"instances": BASE64, "image": BASE64[0]}, 400, "invalid_request", "'image' does not belong"),
    ],
    ids=str,
)
def test_v1_refusals(body: Any, status: int, code: str, reason: str) -> None:
    error = refused(body)
    assert (error.status, error.code) == (status, code)
    assert reason in str(error)


@pytest.mark.parametrize("instance", [7, None, [BASE64[0]], {}, {"topk": 1}, {"image": None}, "%"], ids=str)
def test_v1_instances_that_are_no_picture(instance: Any) -> None:
    bad, good = parse({"instances": [instance, BASE64[1]]}).requests
    assert isinstance(bad, RequestError)
    assert bad.code == "invalid_request"
    assert good == Request(PICTURES[1], Options(), images_in_request=2)


# ----------------------------------------------------------------------------- V2


def infer(*pictures: Any, shape: Any = None, **members: Any) -> dict[str, Any]:
    tensor = {"name": "image", "shape": shape or [len(pictures)], "datatype": "BYTES", "data": list(pictures)}
    return {"inputs": [tensor], **members}


def outputs(said: Any) -> dict[str, Any]:
    return {tensor.pop("name"): tensor for tensor in said["outputs"]}


def test_v2_has_a_tensor_of_pictures() -> None:
    expected = [Request(picture, Options(topk=2), images_in_request=3) for picture in PICTURES]

    assert requests(infer(*BASE64, parameters={"topk": 2})) == expected
    assert requests(infer(*([data] for data in BASE64), shape=[3, 1]), {"Gradcam-Topk": "2"}) == expected
    assert requests(infer(*BASE64, shape=[3.0], parameters={"topk": 2.0})) == expected
    of_tensor = infer(*BASE64, parameters={"topk": 1})
    of_tensor["inputs"][0]["parameters"] = {"topk": 2}
    assert requests(of_tensor) == expected


def test_v2_answers_in_tensors() -> None:
    body = infer(*BASE64[:2], id="request 1")
    first, second = requests(body)

    reply, said = answer(body, hats(first), cats(second))

    assert (reply.status, reply.content_type, reply.errors) == (200, "application/json", ())
    named = outputs(said)
    assert said == {
        "model_name": "hats",
        "model_version": "2.0",
        "id": "request 1",
        "parameters": {"method": "layercam", "layer": "layer4,layer3"},
        "outputs": list(named.values()),
    }
    assert named == {
        "index": {"datatype": "INT64", "shape": [2, 2], "data": [515, 281, 281, 17]},
        "label": {"datatype": "BYTES", "shape": [2, 2], "data": ["cowboy hat", "tabby", "tabby", "jay"]},
        "probability": {"datatype": "FP32", "shape": [2, 2], "data": [0.615723, 0.25, 0.25, 1e-9]},
        "target": {"datatype": "INT64", "shape": [2, 2], "data": [515, 17, 281, 281]},
        "evidence": {"datatype": "BOOL", "shape": [2, 2], "data": [True, False, True, True]},
        "peak": {"datatype": "INT64", "shape": [2, 2, 2], "data": [12, 7, -1, -1, 0, 0, 0, 0]},
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


def test_v2_without_explanations_has_none_of_their_tensors() -> None:
    body = infer(BASE64[0], parameters={"explain": 0})
    (request,) = requests(body)

    named = outputs(answer(body, result(request, [HAT, CAT], []))[1])

    assert list(named) == ["index", "label", "probability", "region"]


def test_v2_answers_what_is_wanted() -> None:
    body = infer(BASE64[0], outputs=[{"name": "label"}, {"name": "error"}, {"name": "heatmap", "parameters": {}}])
    (request,) = requests(body)

    assert list(outputs(answer(body, hats(request))[1])) == ["label", "heatmap"]


def test_v2_one_bad_picture_fails_alone() -> None:
    body = infer(*BASE64, parameters={"overlay": "png"})
    *_, third = requests(body)

    reply, said = answer(body, NOT_A_PICTURE, UNKNOWN, cats(third))

    named = outputs(said)
    assert (reply.status, reply.errors) == (200, (NOT_A_PICTURE, UNKNOWN))
    assert named["index"]["data"] == [-1, -1, -1, -1, 281, 17]
    assert named["label"]["data"] == ["", "", "", "", "tabby", "jay"]
    assert named["probability"]["data"] == [0, 0, 0, 0, 0.25, 1e-9]
    assert named["target"]["data"] == [-1, -1, -1, -1, 281, 281]
    assert named["evidence"]["data"] == [False] * 4 + [True] * 2
    assert named["peak"]["data"] == [-1] * 8 + [0] * 4
    assert named["heatmap"] == {"datatype": "FP32", "shape": [3, 2, 2, 3], "data": [0] * 24 + [1] * 12}
    assert named["overlay"]["data"] == [""] * 4 + ["data:image/png;base64,Y2F0"] * 2
    assert named["region"]["data"] == [0] * 8 + [1, 2, 31, 42]
    assert (named["error"]["shape"], named["error"]["data"][2]) == ([3], "")
    assert [json.loads(entry)["error"]["code"] for entry in named["error"]["data"][:2]] == [
        "undecodable_image",
        "unknown_class",
    ]


def test_v2_fails_where_every_picture_does() -> None:
    reply, said = answer(infer(*BASE64[:2]), NOT_A_PICTURE, UNKNOWN)

    assert (reply.status, reply.errors) == (400, (NOT_A_PICTURE, UNKNOWN))
    assert said == {"error": {"code": "undecodable_image", "message": "these 3 bytes are not a picture"}}


TENSOR = {"name": "image", "shape": [1], "datatype": "BYTES", "data": [BASE64[0]]}


@pytest.mark.parametrize(
    ("body", "status", "code", "reason"),
    [
        ({"inputs": []}, 400, "invalid_request", "a list of one tensor"),
        ({"inputs": TENSOR}, 400, "invalid_request", "a list of one tensor"),
        ({"inputs": [7]}, 400, "invalid_request", "a list of one tensor"),
        ({"inputs": [TENSOR, TENSOR]}, 400, "invalid_request", "a list of one tensor"),
        ({"inputs": [{**TENSOR, "name": "pixels"}]}, 400, "invalid_request", '{"name": "image"'),
        ({"inputs": [{**TENSOR, "name": []}]}, 400, "invalid_request", '{"name": "image"'),
        ({"inputs": [{**TENSOR, "datatype": "FP32"}]}, 400, "invalid_request", '"datatype": "BYTES"'),
        ({"inputs": [{**TENSOR, "data": BASE64[0]}]}, 400, "invalid_request", '"data": ["<base64>", …]'),
        ({"inputs": [{**TENSOR, "data": []}]}, 400, "invalid_request", "empty"),
        ({"inputs": [{**TENSOR, "shape": [2]}]}, 400, "invalid_request", "must be [1], for there are 1 pictures"),
        ({"inputs": [{**TENSOR, "shape": [-1]}]}, 400, "invalid_request", "not [-1]"),
        ({"inputs": [{**TENSOR, "shape": [True]}]}, 400, "invalid_request", "not [True]"),
        ({"inputs": [{**TENSOR, "shape": []}]}, 400, "invalid_request", "not []"),
        ({"inputs": [{**TENSOR, "shape": [1] * 9}]}, 400, "invalid_request", "must be [1]"),
        ({"inputs": [{**TENSOR, "shape": 1}]}, 400, "invalid_request", "not 1"),
        (infer(*BASE64[:1] * 5), 422, "too_many_instances", "5 pictures, the limit is 4"),
        (infer(BASE64[0], id=7), 400, "invalid_request", "id must be text, not 7"),
        (infer(BASE64[0], outputs={}), 400, "invalid_request", 'must be a list of {"name": …}, not {}'),
        (infer(BASE64[0], outputs=["label"]), 400, "invalid_request", "None is not an output"),
        (infer(BASE64[0], outputs=[{"name": []}]), 400, "invalid_request", "[] is not an output"),
        (infer(BASE64[0], outputs=[{"name": "lable"}]), 400, "invalid_request", "did you mean 'label'"),
        (infer(BASE64[0], parameters="topk"), 400, "invalid_request", "an object of options"),
        (infer(BASE64[0], output=[]), 400, "invalid_request", "did you mean 'outputs'"),
    ],
    ids=str,
)
def test_v2_refusals(body: Any, status: int, code: str, reason: str) -> None:
    error = refused(body)
    assert (error.status, error.code) == (status, code)
    assert reason in str(error)
    assert len(str(error)) < 400


def test_v2_a_wrong_parameter_is_that_of_every_picture() -> None:
    for error in parse(infer(*BASE64[:2], parameters={"topkk": 1})).requests:
        assert isinstance(error, RequestError)
        assert error.code == "invalid_option"


def test_v2_in_binary_is_refused_by_name() -> None:
    error = refused(b'{"inputs": []}\x00\x01', {"Inference-Header-Content-Length": "14"})
    assert error.code == "invalid_request"
    assert "tensors in binary are not supported" in str(error)


# ----------------------------------------------------------------------------- gRPC's ModelInfer

# As TorchServe hands a call on, with what it knows of the content as the only header.
GRPC = {"body": {"content-type": "application/json"}}


def call(*tensors: Any) -> RequestGroup:
    body = {"id": "", "model_name": "hats", "inputs": list(tensors)}
    return wire.parse({"body": body}, GRPC, MOST, Model("hats", "2.0"))


def tensors_of(reply: Reply) -> dict[str, Any]:
    """Checks what TorchServe needs to translate a reply, without which it ends the worker."""
    said = json.loads(str(reply.body))
    assert (reply.status, reply.content_type) == (200, "application/json")
    assert (said["id"], said["model_name"], said["model_version"]) == ("", "hats", "2.0")
    return outputs(said)


def test_model_infer_answers_in_tensors() -> None:
    tensor = infer(*BASE64[:2])["inputs"][0]
    message = call(tensor)
    first, second = message.requests
    assert [first, second] == [Request(picture, Options(), images_in_request=2) for picture in PICTURES[:2]]
    assert isinstance(first, Request)

    named = tensors_of(wire.render(message, [hats(first), UNKNOWN], NO_LIMIT))

    over_http = answer(infer(*BASE64[:2]), hats(first), UNKNOWN)[1]
    assert named == outputs(over_http)
    assert named["label"]["data"] == ["cowboy hat", "tabby", "", ""]


def test_model_infer_says_in_a_tensor_that_every_picture_failed() -> None:
    message = call(infer(*BASE64[:2])["inputs"][0])

    reply = wire.render(message, [NOT_A_PICTURE, UNKNOWN], NO_LIMIT)

    named = tensors_of(reply)
    assert reply.errors == (NOT_A_PICTURE, UNKNOWN)
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
        ([{**TENSOR, "shape": [5], "data": BASE64[:1] * 5}], "too_many_instances"),
    ],
    ids=str,
)
def test_model_infer_refuses_in_a_tensor(tensors: list[Any], code: str) -> None:
    message = call(*tensors)
    (error,) = message.requests
    assert isinstance(error, RequestError)

    named = tensors_of(wire.render(message, [error], NO_LIMIT))

    (said,) = named["error"]["data"]
    assert json.loads(said)["error"]["code"] == code


def test_model_infer_says_in_a_tensor_that_the_answer_is_too_large() -> None:
    message = call(TENSOR)
    (request,) = message.requests
    assert isinstance(request, Request)

    named = tensors_of(wire.render(message, [hats(request)], 500))

    (said,) = named["error"]["data"]
    assert json.loads(said)["error"]["code"] == "answer_too_large"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [({}, True), (GRPC, True), ({**GRPC, "Host": "localhost"}, False), ({"content-length": "1"}, False)],
    ids=str,
)
def test_what_came_over_grpc(headers: dict[str, Any], expected: bool) -> None:
    assert wire.is_grpc(headers) is expected


# ----------------------------------------------------------------------------- size


@pytest.mark.parametrize("body", [{"instances": BASE64[:1]}, infer(BASE64[0]), {"image": BASE64[0]}])
def test_an_answer_that_torchserve_would_not_carry_is_refused(body: Any) -> None:
    message = parse(body)
    (request,) = message.requests
    assert isinstance(request, Request)
    whole = message.reply([hats(request)])

    assert wire.render(message, [hats(request)], len(whole.body)) == whole
    refusal = wire.render(message, [hats(request)], len(whole.body) - 1)

    (error,) = refusal.errors
    assert isinstance(error, TooLarge)
    assert (refusal.status, error.code) == (413, "answer_too_large")
    assert f"{len(whole.body):,} bytes" in str(error)
    assert json.loads(str(refusal.body))["error"]["code"] == "answer_too_large"


def test_companions_do_not_change_what_is_asked() -> None:
    alone = parse({"image": BASE64[0], "topk": 3}).requests[0]
    assert isinstance(alone, Request)
    assert (
        requests({"instances": [{"image": BASE64[0], "topk": 3}] * 2})
        == [dataclasses.replace(alone, images_in_request=2)] * 2
    )
