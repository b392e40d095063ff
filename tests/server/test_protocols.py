"""Every door, from outside: the same picture and options give the same answer, alone and in one batch."""

from __future__ import annotations

import base64
import json
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc as grpc_library
import numpy as np
import pytest
import requests

from tests.support.grpc_client import GrpcClient
from tests.support.served import BATCH_SECONDS, Call, Model, check, check_tensors, document, encoded, error, sample

SEEDS = range(81, 87)
PIXELS = [sample(seed, 150 + seed, 260 - seed) for seed in SEEDS]
PICTURES = [encoded(pixels) for pixels in PIXELS]
BASE64 = [base64.b64encode(picture).decode() for picture in PICTURES]
NOT_A_PICTURE = b"not a picture"
BAD = base64.b64encode(NOT_A_PICTURE).decode()
OPTIONS = {"targets": "281, Egyptian cat", "topk": "3"}
TARGETS = [281, 285]


def tensor(*pictures: str, **changes: Any) -> dict[str, Any]:
    return {"name": "image", "shape": [len(pictures)], "datatype": "BYTES", "data": list(pictures), **changes}


def outputs(said: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {output["name"]: output for output in said["outputs"]}


def of_grpc(answer: Any) -> dict[str, dict[str, Any]]:
    """Returns what `ModelInfer` answers in the form of V2's JSON; TorchServe writes each of its BYTES as JSON."""
    fields = {"INT64": "int64_contents", "FP32": "fp32_contents", "BOOL": "bool_contents", "BYTES": "bytes_contents"}
    named = {}
    for output in answer.outputs:
        data = list(getattr(output.contents, fields[output.datatype]))
        if output.datatype == "BYTES":
            data = [json.loads(entry) for entry in data]
        named[output.name] = {"datatype": output.datatype, "shape": list(output.shape), "data": data}
    return named


def code_of(answer: bytes) -> str:
    """Returns the code of an error, which over gRPC stands in the body only."""
    said = json.loads(answer)
    assert said.keys() == {"error"}
    return str(said["error"]["code"])


# ----------------------------------------------------------------------------- one picture


def curl(model: Model, path: str, *arguments: str, picture: bytes | None = None) -> dict[str, Any]:
    command = ["curl", "--silent", "--show-error", "--fail-with-body", "--noproxy", "*", *arguments]
    done = subprocess.run(
        [*command, f"{model.server.inference_url}{path}"], input=picture, capture_output=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    read: dict[str, Any] = json.loads(done.stdout)
    return read


def by_curl_raw(model: Model, _: GrpcClient) -> dict[str, Any]:
    headers = [part for name, value in OPTIONS.items() for part in ("-H", f"Gradcam-{name}: {value}")]
    return curl(model, "/predictions/squash", "-T", "-", *headers, picture=PICTURES[0])


def by_curl_form(model: Model, _: GrpcClient) -> dict[str, Any]:
    fields = [part for name, value in OPTIONS.items() for part in ("-F", f"{name}={value}")]
    return curl(model, "/explanations/squash", "-F", "data=@-;filename=p", *fields, picture=PICTURES[0])


def by_curl_v1(model: Model, _: GrpcClient) -> dict[str, Any]:
    body = json.dumps({"instances": [{"image": {"b64": BASE64[0]}, **OPTIONS}]}).encode()
    said = curl(model, "/v1/models/squash:predict", "--json", "@-", picture=body)
    return one(said["predictions"])


def by_form(model: Model, _: GrpcClient) -> dict[str, Any]:
    return document(model.post(Call(PICTURES[0], form=OPTIONS)))


def by_json(model: Model, _: GrpcClient) -> dict[str, Any]:
    return document(model.post(Call(document={"image": BASE64[0], "targets": [281, "Egyptian cat"], "topk": 3})))


def by_v1_parameters(model: Model, _: GrpcClient) -> dict[str, Any]:
    body = {"instances": [BASE64[0]], "parameters": OPTIONS}
    return one(document(model.post_json("/v1/models/squash:predict", body))["predictions"])


def by_v1_headers(model: Model, _: GrpcClient) -> dict[str, Any]:
    headers = {f"Gradcam-{name}": value for name, value in OPTIONS.items()}
    said = document(model.post_json("/v1/models/squash:predict", {"instances": [BASE64[0]]}, **headers))
    return one(said["predictions"])


def by_v1_explain(model: Model, _: GrpcClient) -> dict[str, Any]:
    said = document(model.post_json("/v1/models/squash:explain", {"instances": [{"data": BASE64[0], **OPTIONS}]}))
    answer = one(said["predictions"])
    assert said == {"predictions": [answer], "explanations": [answer["explanations"]]}
    return answer


def by_grpc(model: Model, grpc: GrpcClient) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(grpc.predict(model.name, data=PICTURES[0], **OPTIONS))
    return read


def by_grpc_stream(model: Model, grpc: GrpcClient) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(one(grpc.stream(model.name, body=PICTURES[0], **OPTIONS)))
    return read


def one(entries: list[Any]) -> Any:
    (only,) = entries
    return only


@pytest.mark.parametrize(
    "door",
    [
        by_curl_raw,
        by_curl_form,
        by_curl_v1,
        by_form,
        by_json,
        by_v1_parameters,
        by_v1_headers,
        by_v1_explain,
        by_grpc,
        by_grpc_stream,
    ],
    ids=lambda door: door.__name__,
)
def test_the_answer_is_the_same_at_every_door(
    door: Callable[[Model, GrpcClient], dict[str, Any]], squash: Model, grpc: GrpcClient
) -> None:
    answer = door(squash, grpc)

    check(answer, squash, PIXELS[0], TARGETS, topk=3)
    assert answer == by_form(squash, grpc)


# ----------------------------------------------------------------------------- KServe V1


def test_v1_answers_each_instance_as_it_asks(squash: Model) -> None:
    body = {
        "instances": [
            {"image": {"b64": BASE64[0]}},
            {"image": BASE64[1], "targets": [7, "tabby"], "topk": 2},
            {"image": f"data:image/png;base64,{BASE64[2]}", "explain": 0},
            BASE64[3],
        ],
        "parameters": {"explain": 2, "topk": 4},
    }

    answers = document(squash.post_json("/v1/models/squash:predict", body))["predictions"]

    asked: list[tuple[list[int] | int, int]] = [(2, 4), ([7, 281], 2), (0, 4), (2, 4)]
    for answer, pixels, (targets, topk) in zip(answers, PIXELS, asked, strict=False):
        check(answer, squash, pixels, targets, topk)
    assert len(answers) == 4


@pytest.mark.parametrize("verb", ["predict", "explain"])
def test_v1_a_bad_instance_fails_alone(verb: str, squash: Model) -> None:
    instances = [BASE64[0], BAD, {"image": BASE64[1], "targets": "tabbi"}, {"image": 7}, {"image": BASE64[2]}]

    said = document(squash.post_json(f"/v1/models/squash:{verb}", {"instances": instances}))

    answers = said["predictions"]
    check(answers[0], squash, PIXELS[0])
    check(answers[4], squash, PIXELS[2])
    codes = [answer["error"]["code"] for answer in answers[1:4]]
    assert codes == ["undecodable_image", "unknown_class", "invalid_request"]
    if verb == "explain":
        assert said["explanations"] == [answer.get("explanations", []) for answer in answers]


def test_v1_where_every_instance_is_bad_so_is_the_request(squash: Model) -> None:
    response = squash.post_json(
        "/v1/models/squash:predict", {"instances": [{"image": BASE64[0], "method": "cam"}, BAD]}
    )

    said = response.json()
    assert response.status_code == 422
    assert [entry["error"]["code"] for entry in said["predictions"]] == ["unknown_method", "undecodable_image"]
    assert said["error"] == said["predictions"][0]["error"]


# ----------------------------------------------------------------------------- KServe V2


def test_v2_answers_in_tensors(squash: Model) -> None:
    body = {"id": "42", "inputs": [tensor(*BASE64[:3])], "parameters": {"targets": "281,Egyptian cat", "topk": 3}}

    said = document(squash.post_json("/v2/models/squash/infer", body))

    check_tensors(outputs(said), squash, PIXELS[:3], TARGETS, 3)
    assert (said["id"], said["model_name"], said["model_version"]) == ("42", "squash", "1.0")


def test_v2_pictures_may_be_nested(squash: Model) -> None:
    nested = tensor(shape=[2, 1], data=[[BASE64[0]], [BASE64[1]]], parameters={"explain": 2})

    said = document(squash.post_json("/v2/models/squash/infer", {"inputs": [nested]}))

    check_tensors(outputs(said), squash, PIXELS[:2], 2)


def test_v2_a_bad_picture_fails_alone(squash: Model) -> None:
    said = document(squash.post_json("/v2/models/squash/infer", {"inputs": [tensor(BAD, BASE64[0], BAD)]}))

    named = outputs(said)
    errors = named.pop("error")["data"]
    assert [json.loads(entry)["error"]["code"] if entry else None for entry in errors] == [
        "undecodable_image",
        None,
        "undecodable_image",
    ]
    assert named["index"]["data"][:5] == named["index"]["data"][10:] == [-1] * 5
    check_tensors({name: only(output, 1) for name, output in named.items()}, squash, PIXELS[:1])


def only(output: dict[str, Any], number: int) -> dict[str, Any]:
    """Returns one picture's part of a tensor."""
    part = np.asarray(output["data"]).reshape(output["shape"])[number : number + 1]
    return {**output, "shape": list(part.shape), "data": part.ravel().tolist()}


def test_v2_where_every_picture_is_bad_so_is_the_request(squash: Model) -> None:
    response = squash.post_json("/v2/models/squash/infer", {"inputs": [tensor(BAD, BAD)]})

    assert error(response, 400)[0] == "undecodable_image"


def test_v2_in_binary_is_refused_by_name(squash: Model) -> None:
    """As KServe's own client sends tensors unless told otherwise."""
    description = json.dumps({"inputs": [{**tensor(BASE64[0]), "data": None}]}).encode()
    headers = {"Inference-Header-Content-Length": str(len(description)), "Content-Type": "application/octet-stream"}
    with requests.Session() as session:
        session.trust_env = False
        url = f"{squash.server.inference_url}/v2/models/squash/infer"
        response = session.post(url, data=description + PICTURES[0], headers=headers, timeout=60)

    code, message = error(response, 400)
    assert code == "invalid_request"
    assert "send them as JSON" in message


# ----------------------------------------------------------------------------- KServe, both


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/models/squash:predict", {"instances": BASE64[:1] * 33}),
        ("/v1/models/squash:explain", {"instances": BASE64[:1] * 33}),
        ("/v2/models/squash/infer", {"inputs": [tensor(*BASE64[:1] * 33)]}),
    ],
)
def test_too_many_pictures(path: str, body: dict[str, Any], squash: Model) -> None:
    code, message = error(squash.post_json(path, body), 422)

    assert code == "too_many_instances"
    assert "33 pictures, the limit is 32" in message


@pytest.mark.parametrize("accept", ["image/png", "image/jpeg, */*;q=0.1"])
def test_accept_does_not_decide(accept: str, squash: Model) -> None:
    v1 = document(squash.post_json("/v1/models/squash:predict", {"instances": BASE64[:1]}, Accept=accept))
    v2 = document(squash.post_json("/v2/models/squash/infer", {"inputs": [tensor(BASE64[0])]}, Accept=accept))

    check(one(v1["predictions"]), squash, PIXELS[0])
    check_tensors(outputs(v2), squash, PIXELS[:1])


# ----------------------------------------------------------------------------- gRPC


def test_grpc_errors_stand_in_the_body(squash: Model, grpc: GrpcClient) -> None:
    for call in (grpc.predict, lambda *given, **inputs: one(grpc.stream(*given, **inputs))):
        assert code_of(call("squash", data=NOT_A_PICTURE)) == "undecodable_image"
        assert code_of(call("squash", data=PICTURES[0], topk="0")) == "invalid_option"
        assert code_of(call("squash", data=PICTURES[0], topk=b"\xff")) == "invalid_option"
        assert code_of(call("squash", data=PICTURES[0], tagets="1")) == "invalid_option"
        assert code_of(call("squash", data=PICTURES[0], layer="layer9")) == "unknown_layer"
        assert code_of(call("squash")) == "invalid_request"
    check(squash.ask(PICTURES[0]), squash, PIXELS[0])


@pytest.mark.parametrize("name", ["猫", "кошка", "قطة", "γάτα", "बिल्ली", "🐈", "Straße"])
def test_grpc_options_in_every_script(name: str, squash: Model, grpc: GrpcClient) -> None:
    said = json.loads(grpc.predict("squash", data=PICTURES[0], targets=name))

    assert said["error"]["code"] == "unknown_class"
    assert f"'{name}'" in said["error"]["message"]


def test_grpc_knows_no_such_model(grpc: GrpcClient) -> None:
    for call in (
        lambda: grpc.predict("nothing", data=PICTURES[0]),
        lambda: grpc.stream("nothing", data=PICTURES[0]),
        lambda: grpc.infer("nothing", PICTURES[:1]),
    ):
        with pytest.raises(grpc_library.RpcError, match="Model not found: nothing"):
            call()


def test_torchserve_has_no_conversations_about_pictures(squash: Model, grpc: GrpcClient) -> None:
    """Its StreamPredictions2 is for models that keep a state; a client that waits for the answer gets none, and harms
    nobody. One that ends its side first costs TorchServe the worker, which no handler can prevent.
    """
    with pytest.raises(grpc_library.RpcError) as refused:
        grpc.converse("squash", data=PICTURES[0])

    assert refused.value.code() == grpc_library.StatusCode.UNKNOWN
    check(squash.ask(PICTURES[0]), squash, PIXELS[0])


def test_model_infer_answers_in_tensors(squash: Model, grpc: GrpcClient) -> None:
    answer = grpc.infer("squash", PICTURES[:2], id="42")

    assert (answer.id, answer.model_name, answer.model_version) == ("42", "squash", "1.0")
    check_tensors(of_grpc(answer), squash, PIXELS[:2])


def test_model_infer_a_bad_picture_fails_alone(squash: Model, grpc: GrpcClient) -> None:
    named = of_grpc(grpc.infer("squash", [PICTURES[0], NOT_A_PICTURE]))

    good, bad = named.pop("error")["data"]
    assert good == ""
    assert json.loads(bad)["error"]["code"] == "undecodable_image"
    check_tensors({name: only(output, 0) for name, output in named.items()}, squash, PIXELS[:1])


@pytest.mark.parametrize(
    ("pictures", "changes", "code"),
    [
        ([NOT_A_PICTURE] * 2, {}, "undecodable_image"),
        ([], {}, "invalid_request"),
        (PICTURES[:1] * 33, {}, "too_many_instances"),
        (PICTURES[:1], {"tensor": {"shape": [7]}}, "invalid_request"),
        (PICTURES[:1], {"tensor": {"name": "pixels"}}, "invalid_request"),
        (PICTURES[:1], {"tensor": {"datatype": "FP32"}}, "invalid_request"),
        (PICTURES[:1], {"tensor": {"datatype": "STRING"}}, "invalid_request"),
        (PICTURES[:1], {"inputs": []}, "invalid_request"),
        ([], {"tensor": {"shape": [1]}, "raw_input_contents": PICTURES[:1]}, "invalid_request"),
    ],
    ids=["bad", "none", "many", "shape", "name", "floats", "no datatype", "no tensor", "raw contents"],
)
def test_model_infer_says_in_a_tensor_what_is_wrong(
    pictures: list[bytes], changes: dict[str, Any], code: str, squash: Model, grpc: GrpcClient
) -> None:
    named = of_grpc(grpc.infer("squash", pictures, **changes))

    assert named.keys() == {"error"}
    assert {json.loads(entry)["error"]["code"] for entry in named["error"]["data"]} == {code}
    check(squash.ask(PICTURES[0]), squash, PIXELS[0])


def test_torchserve_hands_on_no_parameters_of_model_infer(squash: Model, grpc: GrpcClient) -> None:
    parameters = {"topk": grpc.open_inference.InferParameter(int64_param=1)}

    check_tensors(of_grpc(grpc.infer("squash", PICTURES[:1], parameters=parameters)), squash, PIXELS[:1], topk=5)


def test_a_client_that_gives_up_harms_nobody(squash: Model, grpc: GrpcClient) -> None:
    for call in (
        lambda: grpc.predict("squash", 0.02, data=PICTURES[0], explain="50", smooth="true"),
        lambda: grpc.stream("squash", 0.02, data=PICTURES[0], explain="50", smooth="true"),
        lambda: grpc.infer("squash", PICTURES * 4, 0.02),
    ):
        with pytest.raises(grpc_library.RpcError) as given_up:
            call()
        assert given_up.value.code() == grpc_library.StatusCode.DEADLINE_EXCEEDED
        check(squash.ask(PICTURES[0]), squash, PIXELS[0])


# ----------------------------------------------------------------------------- one batch


def together(*calls: Callable[[], Any]) -> list[Any]:
    """Makes eight calls of the model `batched`, which are answered in one batch."""
    assert len(calls) == 8
    start = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda call: call(), calls))
    assert time.monotonic() - start < BATCH_SECONDS, "the calls did not share a batch"
    return answers


def test_eight_messages_of_every_door_share_a_batch(batched: Model, grpc: GrpcClient) -> None:
    raw, form, bad, v1, v2, predicted, streamed, inferred = together(
        lambda: batched.post(Call(PICTURES[0], {"Gradcam-Targets": "281"})),
        lambda: batched.post(Call(PICTURES[1], form={"explain": "2"}, door="explanations")),
        lambda: batched.post(Call(document={"image": BAD})),
        lambda: batched.post_json(
            "/v1/models/batched:explain", {"instances": [BASE64[2], {"image": BASE64[3], "topk": 9}]}
        ),
        lambda: batched.post_json("/v2/models/batched/infer", {"inputs": [tensor(BASE64[4], BASE64[5])]}),
        lambda: grpc.predict("batched", data=PICTURES[5], targets="7,8,9"),
        lambda: grpc.stream("batched", data=PICTURES[4], topk="1"),
        lambda: grpc.infer("batched", PICTURES[:3]),
    )

    check(document(raw), batched, PIXELS[0], [281])
    check(document(form), batched, PIXELS[1], 2)
    assert error(bad, 400)[0] == "undecodable_image"
    first, second = document(v1)["predictions"]
    check(first, batched, PIXELS[2])
    check(second, batched, PIXELS[3], topk=9)
    check_tensors(outputs(document(v2)), batched, PIXELS[4:6])
    check(json.loads(predicted), batched, PIXELS[5], [7, 8, 9])
    check(json.loads(one(streamed)), batched, PIXELS[4], topk=1)
    check_tensors(of_grpc(inferred), batched, PIXELS[:3])


def test_six_bad_messages_leave_two_good_ones_alone(batched: Model, grpc: GrpcClient) -> None:
    big = base64.b64encode(encoded(np.random.default_rng(0).integers(0, 256, (600, 600, 3), np.uint8))).decode()
    overlays = {"inputs": [tensor(big)], "parameters": {"overlay": "png"}}

    raw, v1, v2, predicted, streamed, inferred, large, good = together(
        lambda: batched.post(Call(PICTURES[0])),
        lambda: batched.post_json("/v1/models/batched:predict", {"instances": [BAD, 7]}),
        lambda: batched.post_json("/v2/models/batched/infer", {"inputs": []}),
        lambda: grpc.predict("batched", data=NOT_A_PICTURE),
        lambda: grpc.stream("batched", data=PICTURES[1], method="cam"),
        lambda: grpc.infer("batched", [NOT_A_PICTURE]),
        lambda: batched.post_json("/v2/models/batched/infer", overlays),
        lambda: grpc.predict("batched", data=PICTURES[2]),
    )

    check(document(raw), batched, PIXELS[0])
    assert (v1.status_code, v1.json()["error"]["code"]) == (400, "undecodable_image")
    assert error(v2, 400)[0] == "invalid_request"
    assert code_of(predicted) == "undecodable_image"
    assert code_of(one(streamed)) == "unknown_method"
    assert of_grpc(inferred).keys() == {"error"}
    code, message = error(large, 413)
    assert code == "answer_too_large"
    assert "the limit is 1,048,576" in message
    check(json.loads(good), batched, PIXELS[2])
