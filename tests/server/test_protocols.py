"""Every protocol: the same image and options give the same answer, alone and in one batch."""

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

from tests.support.encoding import encoded
from tests.support.grpc_client import GrpcClient
from tests.support.served import BATCH_SECONDS, Call, Model, check, check_tensors, error, error_v2, parsed, sample

SEEDS = range(81, 87)
PIXELS = [sample(seed, 150 + seed, 260 - seed) for seed in SEEDS]
IMAGES = [encoded(pixels) for pixels in PIXELS]
BASE64 = [base64.b64encode(image).decode() for image in IMAGES]
NOT_A_IMAGE = b"not an image"
BAD = base64.b64encode(NOT_A_IMAGE).decode()
OPTIONS: dict[str, Any] = {"targets": "281, Egyptian cat", "topk": "3"}
TARGETS = [281, 285]


def tensor(*images: str, **changes: Any) -> dict[str, Any]:
    return {"name": "image", "shape": [len(images)], "datatype": "BYTES", "data": list(images), **changes}


def outputs(answer: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {output["name"]: output for output in answer["outputs"]}


def of_grpc(message: Any) -> dict[str, dict[str, Any]]:
    """Convert the outputs of `ModelInfer` to V2's JSON form; TorchServe JSON-encodes every BYTES element."""
    fields = {"INT64": "int64_contents", "FP32": "fp32_contents", "BOOL": "bool_contents", "BYTES": "bytes_contents"}
    named = {}
    for output in message.outputs:
        data = list(getattr(output.contents, fields[output.datatype]))
        if output.datatype == "BYTES":
            data = [json.loads(entry) for entry in data]
        named[output.name] = {"datatype": output.datatype, "shape": list(output.shape), "data": data}
    return named


def code_of(body: bytes) -> str:
    """Return the code of an error, which is only in the body over gRPC."""
    answer = json.loads(body)
    assert answer.keys() == {"error"}
    return str(answer["error"]["code"])


# ----------------------------------------------------------------------------- one image


def curl(model: Model, path: str, *arguments: str, image: bytes | None = None) -> dict[str, Any]:
    command = ["curl", "--silent", "--show-error", "--fail-with-body", "--noproxy", "*", *arguments]
    completed = subprocess.run(
        [*command, f"{model.server.inference_url}{path}"], input=image, capture_output=True, check=False, timeout=60
    )
    assert completed.returncode == 0, completed.stdout + completed.stderr
    answer: dict[str, Any] = json.loads(completed.stdout)
    return answer


def by_curl_raw(model: Model, _: GrpcClient) -> dict[str, Any]:
    headers = [part for name, value in OPTIONS.items() for part in ("-H", f"Gradcam-{name}: {value}")]
    return curl(model, "/predictions/squash", "-T", "-", *headers, image=IMAGES[0])


def by_curl_form(model: Model, _: GrpcClient) -> dict[str, Any]:
    fields = [part for name, value in OPTIONS.items() for part in ("-F", f"{name}={value}")]
    return curl(model, "/explanations/squash", "-F", "data=@-;filename=p", *fields, image=IMAGES[0])


def by_curl_v1(model: Model, _: GrpcClient) -> dict[str, Any]:
    body = json.dumps({"instances": [{"image": {"b64": BASE64[0]}, **OPTIONS}]}).encode()
    answer = curl(model, "/v1/models/squash:predict", "--json", "@-", image=body)
    prediction: dict[str, Any] = one(answer["predictions"])
    return prediction


def by_form(model: Model, _: GrpcClient) -> dict[str, Any]:
    return parsed(model.post(Call(IMAGES[0], form=OPTIONS)))


def by_json(model: Model, _: GrpcClient) -> dict[str, Any]:
    return parsed(model.post(Call(json={"image": BASE64[0], "targets": [281, "Egyptian cat"], "topk": 3})))


def by_v1_parameters(model: Model, _: GrpcClient) -> dict[str, Any]:
    body = {"instances": [BASE64[0]], "parameters": OPTIONS}
    prediction: dict[str, Any] = one(parsed(model.post_json("/v1/models/squash:predict", body))["predictions"])
    return prediction


def by_v1_headers(model: Model, _: GrpcClient) -> dict[str, Any]:
    headers = {f"Gradcam-{name}": value for name, value in OPTIONS.items()}
    answer = parsed(model.post_json("/v1/models/squash:predict", {"instances": [BASE64[0]]}, **headers))
    prediction: dict[str, Any] = one(answer["predictions"])
    return prediction


def by_v1_explain(model: Model, _: GrpcClient) -> dict[str, Any]:
    answer = parsed(model.post_json("/v1/models/squash:explain", {"instances": [{"data": BASE64[0], **OPTIONS}]}))
    prediction: dict[str, Any] = one(answer["predictions"])
    assert answer == {"predictions": [prediction], "explanations": [prediction["explanations"]]}
    return prediction


def by_grpc(model: Model, grpc: GrpcClient) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(grpc.predict(model.name, data=IMAGES[0], **OPTIONS))
    return answer


def by_grpc_stream(model: Model, grpc: GrpcClient) -> dict[str, Any]:
    (part,) = grpc.stream(model.name, body=IMAGES[0], **OPTIONS)
    answer: dict[str, Any] = json.loads(part)
    return answer


def one(entries: list[Any]) -> Any:
    (only,) = entries
    return only


@pytest.mark.parametrize(
    "send",
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
    ids=lambda send: send.__name__,
)
def test_every_protocol_gives_the_same_answer(
    send: Callable[[Model, GrpcClient], dict[str, Any]], squash: Model, grpc: GrpcClient
) -> None:
    answer = send(squash, grpc)

    check(answer, squash, PIXELS[0], TARGETS, topk=3)
    assert answer == by_form(squash, grpc)


# ----------------------------------------------------------------------------- KServe V1


def test_v1_applies_the_options_of_each_instance(squash: Model) -> None:
    body = {
        "instances": [
            {"image": {"b64": BASE64[0]}},
            {"image": BASE64[1], "targets": [7, "tabby"], "topk": 2},
            {"image": f"data:image/png;base64,{BASE64[2]}", "explain": 0},
            BASE64[3],
        ],
        "parameters": {"explain": 2, "topk": 4},
    }

    answers = parsed(squash.post_json("/v1/models/squash:predict", body))["predictions"]

    expected: list[tuple[list[int] | int, int]] = [(2, 4), ([7, 281], 2), (0, 4), (2, 4)]
    for answer, pixels, (targets, topk) in zip(answers, PIXELS, expected, strict=False):
        check(answer, squash, pixels, targets, topk)
    assert len(answers) == 4


@pytest.mark.parametrize("verb", ["predict", "explain"])
def test_v1_bad_instance_fails_alone(verb: str, squash: Model) -> None:
    instances = [BASE64[0], BAD, {"image": BASE64[1], "targets": "tabbi"}, {"image": 7}, {"image": BASE64[2]}]

    answer = parsed(squash.post_json(f"/v1/models/squash:{verb}", {"instances": instances}))

    answers = answer["predictions"]
    check(answers[0], squash, PIXELS[0])
    check(answers[4], squash, PIXELS[2])
    codes = [entry["error"]["code"] for entry in answers[1:4]]
    assert codes == ["undecodable_image", "unknown_class", "invalid_request"]
    if verb == "explain":
        assert answer["explanations"] == [entry.get("explanations", []) for entry in answers]


def test_v1_request_fails_if_every_instance_is_bad(squash: Model) -> None:
    response = squash.post_json(
        "/v1/models/squash:predict", {"instances": [{"image": BASE64[0], "method": "cam"}, BAD]}
    )

    answer = response.json()
    assert response.status_code == 422
    assert [entry["error"]["code"] for entry in answer["predictions"]] == ["unknown_method", "undecodable_image"]
    assert answer["error"] == answer["predictions"][0]["error"]


# ----------------------------------------------------------------------------- KServe V2


def test_v2_returns_tensors(squash: Model) -> None:
    body = {"id": "42", "inputs": [tensor(*BASE64[:3])], "parameters": {"targets": "281,Egyptian cat", "topk": 3}}

    answer = parsed(squash.post_json("/v2/models/squash/infer", body))

    check_tensors(outputs(answer), squash, PIXELS[:3], TARGETS, 3)
    assert (answer["id"], answer["model_name"], answer["model_version"]) == ("42", "squash", "1.0")


def test_v2_accepts_nested_images(squash: Model) -> None:
    nested = tensor(shape=[2, 1], data=[[BASE64[0]], [BASE64[1]]], parameters={"explain": 2})

    answer = parsed(squash.post_json("/v2/models/squash/infer", {"inputs": [nested]}))

    check_tensors(outputs(answer), squash, PIXELS[:2], 2)


def test_v2_bad_image_fails_alone(squash: Model) -> None:
    answer = parsed(squash.post_json("/v2/models/squash/infer", {"inputs": [tensor(BAD, BASE64[0], BAD)]}))

    named = outputs(answer)
    errors = named.pop("error")["data"]
    assert [json.loads(entry)["error"]["code"] if entry else None for entry in errors] == [
        "undecodable_image",
        None,
        "undecodable_image",
    ]
    assert named["index"]["data"][:5] == named["index"]["data"][10:] == [-1] * 5
    check_tensors({name: only(output, 1) for name, output in named.items()}, squash, PIXELS[:1])


def only(output: dict[str, Any], number: int) -> dict[str, Any]:
    """Return one image's part of a tensor."""
    part = np.asarray(output["data"]).reshape(output["shape"])[number : number + 1]
    return {**output, "shape": list(part.shape), "data": part.ravel().tolist()}


def test_v2_request_fails_if_every_image_is_bad(squash: Model) -> None:
    response = squash.post_json("/v2/models/squash/infer", {"inputs": [tensor(BAD, BAD)]})

    assert error_v2(response, 400)[0] == "undecodable_image"


# ----------------------------------------------------------------------------- KServe V1 and V2


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/models/squash:predict", {"instances": BASE64[:1] * 33}),
        ("/v1/models/squash:explain", {"instances": BASE64[:1] * 33}),
        ("/v2/models/squash/infer", {"inputs": [tensor(*BASE64[:1] * 33)]}),
    ],
)
def test_more_images_than_max_instances_are_rejected(path: str, body: dict[str, Any], squash: Model) -> None:
    read_error = error_v2 if path.startswith("/v2") else error
    code, message = read_error(squash.post_json(path, body), 422)

    assert code == "too_many_instances"
    assert "at most 32 images, got 33" in message


@pytest.mark.parametrize("accept", ["image/png", "image/jpeg, */*;q=0.1"])
def test_kserve_ignores_accept(accept: str, squash: Model) -> None:
    v1 = parsed(squash.post_json("/v1/models/squash:predict", {"instances": BASE64[:1]}, Accept=accept))
    v2 = parsed(squash.post_json("/v2/models/squash/infer", {"inputs": [tensor(BASE64[0])]}, Accept=accept))

    check(one(v1["predictions"]), squash, PIXELS[0])
    check_tensors(outputs(v2), squash, PIXELS[:1])


# ----------------------------------------------------------------------------- gRPC


def test_grpc_errors_are_in_the_body(squash: Model, grpc: GrpcClient) -> None:
    for call in (grpc.predict, lambda *names, **inputs: one(grpc.stream(*names, **inputs))):
        assert code_of(call("squash", data=NOT_A_IMAGE)) == "undecodable_image"
        assert code_of(call("squash", data=IMAGES[0], topk="0")) == "invalid_option"
        assert code_of(call("squash", data=IMAGES[0], topk=b"\xff")) == "invalid_option"
        assert code_of(call("squash", data=IMAGES[0], tagets="1")) == "invalid_option"
        assert code_of(call("squash", data=IMAGES[0], layer="layer9")) == "unknown_layer"
        assert code_of(call("squash")) == "invalid_request"
    check(squash.predict(IMAGES[0]), squash, PIXELS[0])


@pytest.mark.parametrize("name", ["猫", "кошка", "قطة", "γάτα", "बिल्ली", "🐈", "Straße"])
def test_grpc_options_may_be_non_ascii(name: str, squash: Model, grpc: GrpcClient) -> None:
    answer = json.loads(grpc.predict("squash", data=IMAGES[0], targets=name))

    assert answer["error"]["code"] == "unknown_class"
    assert f"'{name}'" in answer["error"]["message"]


def test_grpc_rejects_an_unknown_model(grpc: GrpcClient) -> None:
    for call in (
        lambda: grpc.predict("nothing", data=IMAGES[0]),
        lambda: grpc.stream("nothing", data=IMAGES[0]),
        lambda: grpc.infer("nothing", IMAGES[:1]),
    ):
        with pytest.raises(grpc_library.RpcError, match="Model not found: nothing"):
            call()


def test_stream_predictions_2_fails(squash: Model, grpc: GrpcClient) -> None:
    """TorchServe offers StreamPredictions2 for models with state. A client that waits for the answer gets an error.

    A client that ends its side first makes TorchServe kill the worker, which no handler can prevent.
    """
    with pytest.raises(grpc_library.RpcError) as failure:
        grpc.converse("squash", data=IMAGES[0])

    assert failure.value.code() == grpc_library.StatusCode.UNKNOWN
    check(squash.predict(IMAGES[0]), squash, PIXELS[0])


def test_model_infer_returns_tensors(squash: Model, grpc: GrpcClient) -> None:
    message = grpc.infer("squash", IMAGES[:2], id="42")

    assert (message.id, message.model_name, message.model_version) == ("42", "squash", "1.0")
    check_tensors(of_grpc(message), squash, PIXELS[:2])


def test_model_infer_accepts_any_name_of_the_input(squash: Model, grpc: GrpcClient) -> None:
    check_tensors(of_grpc(grpc.infer("squash", IMAGES[:1], tensor={"name": "pixels"})), squash, PIXELS[:1])


def test_model_infer_bad_image_fails_alone(squash: Model, grpc: GrpcClient) -> None:
    named = of_grpc(grpc.infer("squash", [IMAGES[0], NOT_A_IMAGE]))

    good, bad = named.pop("error")["data"]
    assert good == ""
    assert json.loads(bad)["error"]["code"] == "undecodable_image"
    check_tensors({name: only(output, 0) for name, output in named.items()}, squash, PIXELS[:1])


@pytest.mark.parametrize(
    ("images", "changes", "code"),
    [
        ([NOT_A_IMAGE] * 2, {}, "undecodable_image"),
        ([], {}, "invalid_request"),
        (IMAGES[:1] * 33, {}, "too_many_instances"),
        (IMAGES[:1], {"tensor": {"shape": [7]}}, "invalid_request"),
        (IMAGES[:1], {"tensor": {"datatype": "FP32"}}, "invalid_request"),
        (IMAGES[:1], {"tensor": {"datatype": "STRING"}}, "invalid_request"),
        (IMAGES[:1], {"inputs": []}, "invalid_request"),
        ([], {"tensor": {"shape": [1]}, "raw_input_contents": IMAGES[:1]}, "invalid_request"),
    ],
    ids=["bad", "none", "many", "shape", "floats", "no datatype", "no tensor", "raw contents"],
)
def test_model_infer_returns_errors_in_a_tensor(
    images: list[bytes], changes: dict[str, Any], code: str, squash: Model, grpc: GrpcClient
) -> None:
    named = of_grpc(grpc.infer("squash", images, **changes))

    assert named.keys() == {"error"}
    assert {json.loads(entry)["error"]["code"] for entry in named["error"]["data"]} == {code}
    check(squash.predict(IMAGES[0]), squash, PIXELS[0])


def test_model_infer_accepts_any_name_of_the_tensor(squash: Model, grpc: GrpcClient) -> None:
    check_tensors(of_grpc(grpc.infer("squash", IMAGES[:1], tensor={"name": "input-0"})), squash, PIXELS[:1])


def test_torchserve_drops_parameters_of_model_infer(squash: Model, grpc: GrpcClient) -> None:
    parameters = {"topk": grpc.open_inference.InferParameter(int64_param=1)}

    check_tensors(of_grpc(grpc.infer("squash", IMAGES[:1], parameters=parameters)), squash, PIXELS[:1], topk=5)


def test_grpc_client_timeout_does_not_affect_others(squash: Model, grpc: GrpcClient) -> None:
    for call in (
        lambda: grpc.predict("squash", 0.02, data=IMAGES[0], explain="50", smooth="true"),
        lambda: grpc.stream("squash", 0.02, data=IMAGES[0], explain="50", smooth="true"),
        lambda: grpc.infer("squash", IMAGES * 4, 0.02),
    ):
        with pytest.raises(grpc_library.RpcError) as failure:
            call()
        assert failure.value.code() == grpc_library.StatusCode.DEADLINE_EXCEEDED
        check(squash.predict(IMAGES[0]), squash, PIXELS[0])


# ----------------------------------------------------------------------------- one batch


def together(*calls: Callable[[], Any]) -> list[Any]:
    """Make eight calls to the model `batched`, which are answered in one batch."""
    assert len(calls) == 8
    start = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda call: call(), calls))
    assert time.monotonic() - start < BATCH_SECONDS, "the calls did not share a batch"
    return answers


def test_requests_of_all_protocols_share_a_batch(batched: Model, grpc: GrpcClient) -> None:
    raw, form, bad, v1, v2, predicted, streamed, inferred = together(
        lambda: batched.post(Call(IMAGES[0], {"Gradcam-Targets": "281"})),
        lambda: batched.post(Call(IMAGES[1], form={"explain": "2"}, endpoint="explanations")),
        lambda: batched.post(Call(json={"image": BAD})),
        lambda: batched.post_json(
            "/v1/models/batched:explain", {"instances": [BASE64[2], {"image": BASE64[3], "topk": 9}]}
        ),
        lambda: batched.post_json("/v2/models/batched/infer", {"inputs": [tensor(BASE64[4], BASE64[5])]}),
        lambda: grpc.predict("batched", data=IMAGES[5], targets="7,8,9"),
        lambda: grpc.stream("batched", data=IMAGES[4], topk="1"),
        lambda: grpc.infer("batched", IMAGES[:3]),
    )

    check(parsed(raw), batched, PIXELS[0], [281])
    check(parsed(form), batched, PIXELS[1], 2)
    assert error(bad, 400)[0] == "undecodable_image"
    first, second = parsed(v1)["predictions"]
    check(first, batched, PIXELS[2])
    check(second, batched, PIXELS[3], topk=9)
    check_tensors(outputs(parsed(v2)), batched, PIXELS[4:6])
    check(json.loads(predicted), batched, PIXELS[5], [7, 8, 9])
    check(json.loads(one(streamed)), batched, PIXELS[4], topk=1)
    check_tensors(of_grpc(inferred), batched, PIXELS[:3])


def test_bad_requests_of_all_protocols_fail_alone(batched: Model, grpc: GrpcClient) -> None:
    big = base64.b64encode(encoded(np.random.default_rng(0).integers(0, 256, (600, 600, 3), np.uint8))).decode()
    overlays = {"inputs": [tensor(big)], "parameters": {"overlay": "png"}}

    raw, v1, v2, predicted, streamed, inferred, large, good = together(
        lambda: batched.post(Call(IMAGES[0])),
        lambda: batched.post_json("/v1/models/batched:predict", {"instances": [BAD, 7]}),
        lambda: batched.post_json("/v2/models/batched/infer", {"inputs": []}),
        lambda: grpc.predict("batched", data=NOT_A_IMAGE),
        lambda: grpc.stream("batched", data=IMAGES[1], method="cam"),
        lambda: grpc.infer("batched", [NOT_A_IMAGE]),
        lambda: batched.post_json("/v2/models/batched/infer", overlays),
        lambda: grpc.predict("batched", data=IMAGES[2]),
    )

    check(parsed(raw), batched, PIXELS[0])
    assert (v1.status_code, v1.json()["error"]["code"]) == (400, "undecodable_image")
    assert error_v2(v2, 400)[0] == "invalid_request"
    assert code_of(predicted) == "undecodable_image"
    assert code_of(one(streamed)) == "unknown_method"
    assert of_grpc(inferred).keys() == {"error"}
    code, message = error_v2(large, 413)
    assert code == "answer_too_large"
    assert "at most 1,048,576 bytes" in message
    check(json.loads(good), batched, PIXELS[2])
