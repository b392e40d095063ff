"""Requests as standard clients send them, answered by TorchServe alone."""

from __future__ import annotations

import base64
import gzip
import json
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from tests.support import http_client
from tests.support.client_requests import PIXELS, REQUESTS, tensors
from tests.support.encoding import encoded
from tests.support.served import Call, Model, check, check_tensors, error, error_v2, parsed, sample

SAMPLE = sample(81, 40, 30)
IMAGE = encoded(SAMPLE)
BASE64 = base64.b64encode(IMAGE).decode()
LENGTH = "Inference-Header-Content-Length"


def post(model: Model, path: str, body: bytes, headers: dict[str, str]) -> Any:
    return http_client.post(model.server.inference_url + path, data=body, headers=headers)


@pytest.mark.parametrize("name", REQUESTS)
def test_recorded_requests_of_kserves_and_tritons_clients(name: str, squash: Model) -> None:
    recorded = REQUESTS[name]
    response = post(squash, "/v2/models/squash/infer", recorded.body, recorded.headers)

    assert response.status_code == 200, response.text
    length = response.headers.get(LENGTH)
    outputs = tensors(response.content, None if length is None else int(length))
    if "requested outputs" in name:
        assert list(outputs) == ["label", "heatmap"]
    else:
        check_tensors(outputs, squash, [PIXELS])
    is_binary = "binary outputs" in name or name.startswith("tritonclient")
    assert response.headers["content-type"] == ("application/octet-stream" if is_binary else "application/json")


def test_a_malformed_binary_request_is_rejected_in_the_form_of_v2(squash: Model) -> None:
    recorded = REQUESTS["kserve, encoded image, binary"]
    response = post(squash, "/v2/models/squash/infer", recorded.body[:-1], recorded.headers)

    code, message = error_v2(response, 400)
    assert code == "invalid_request"
    assert "binary_data_size must be" in message


@pytest.mark.parametrize("content_type", [None, "text/plain", "text/json", "application/vnd.api+json"])
@pytest.mark.parametrize("body", [{"image": BASE64}, {"instances": [{"b64": BASE64}]}], ids=["one image", "V1"])
def test_json_with_any_content_type(content_type: str | None, body: dict[str, Any], squash: Model) -> None:
    headers = {} if content_type is None else {"Content-Type": content_type}
    answer = parsed(post(squash, "/predictions/squash", json.dumps(body).encode(), headers))

    check(answer["predictions"][0] if "instances" in body else answer, squash, SAMPLE)


@pytest.mark.parametrize(("encoding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
@pytest.mark.parametrize("body", [IMAGE, json.dumps({"image": BASE64}).encode()], ids=["image", "json"])
def test_compressed_bodies(encoding: str, compress: Any, body: bytes, squash: Model) -> None:
    headers = {"Content-Encoding": encoding, "Content-Type": "application/json" if body[:1] == b"{" else "image/png"}

    check(parsed(post(squash, "/predictions/squash", compress(body), headers)), squash, SAMPLE)


def test_an_unknown_encoding_is_rejected_by_name(squash: Model) -> None:
    code, message = error(post(squash, "/predictions/squash", IMAGE, {"Content-Encoding": "br"}), 415)

    assert code == "unsupported_encoding"
    assert "got 'br'" in message


@pytest.mark.parametrize("text", [BASE64, f"data:image/png;base64,{BASE64}"], ids=["base64", "data url"])
def test_base64_in_forms(text: str, squash: Model) -> None:
    check(parsed(squash.post(Call(form={"data": text, "topk": "3"}))), squash, SAMPLE, topk=3)
    urlencoded = http_client.post(f"{squash.server.inference_url}/predictions/squash", data={"image": text})
    check(parsed(urlencoded), squash, SAMPLE)


def test_sagemakers_invocations(squash: Model) -> None:
    check(parsed(post(squash, "/invocations?model_name=squash", IMAGE, {"Content-Type": "image/png"})), squash, SAMPLE)


def test_labels_in_utf8_headers_and_with_commas(crop: Model) -> None:
    answer = parsed(crop.post(Call(IMAGE, form={"targets": "cat, Egyptian"})))
    assert [entry["index"] for entry in answer["explanations"]] == [285]
    response = crop.post(Call(IMAGE, {"Gradcam-Targets": "grünes Dreieck".encode().decode("latin-1")}))
    code, message = error(response, 422)
    assert (code, "'grünes Dreieck'" in message) == ("unknown_class", True)


# ----------------------------------------------------------------------------- limits


def binary(tensor: dict[str, Any], tail: bytes, **headers: str) -> tuple[bytes, dict[str, str]]:
    """Return the body and the headers of a V2 request with one binary tensor."""
    head = json.dumps({"inputs": [{"name": "x", "parameters": {"binary_data_size": len(tail)}, **tensor}]}).encode()
    return head + tail, {LENGTH: str(len(head)), **headers}


def compressed(body: bytes, headers: dict[str, str]) -> tuple[bytes, dict[str, str]]:
    return gzip.compress(body), {**headers, "Content-Encoding": "gzip"}


DEEP = b"[" * 200_000
BOMB = 100 * 2**20
# Each request is made when its test runs.
HOSTILE: dict[str, tuple[Callable[[], tuple[bytes, dict[str, str]]], int, str]] = {
    "compressed zeros": (lambda: compressed(bytes(BOMB), {}), 413, "image_too_large"),
    "compressed tensor": (
        lambda: compressed(*binary({"shape": [1, 8000, 8000, 3], "datatype": "UINT8"}, bytes(BOMB))),
        413,
        "image_too_large",
    ),
    "compressed blanks": (
        lambda: compressed(b"{" + b" " * BOMB + b"}", {"Content-Type": "application/json"}),
        413,
        "image_too_large",
    ),
    "pixels that are not sent": (
        lambda: binary({"shape": [1, 2**31, 2**31, 3], "datatype": "UINT8"}, b"\0\0\0"),
        400,
        "invalid_request",
    ),
    "images that are not sent": (
        lambda: binary({"shape": [2**62], "datatype": "BYTES"}, b""),
        422,
        "too_many_instances",
    ),
    "empty images": (
        lambda: binary({"shape": [10**6], "datatype": "BYTES"}, bytes(4 * 10**6)),
        422,
        "too_many_instances",
    ),
    "an element of 4 GiB": (lambda: binary({"shape": [1], "datatype": "BYTES"}, b"\xff" * 8), 400, "invalid_request"),
    "many dimensions": (lambda: binary({"shape": [1] * 10**5, "datatype": "UINT8"}, b""), 400, "invalid_request"),
    "deep JSON before a tensor": (lambda: (DEEP, {LENGTH: str(len(DEEP))}), 400, "invalid_request"),
    "deep JSON without a type": (lambda: (b'{"inputs":' + DEEP, {}), 400, "invalid_request"),
    "deep JSON that is compressed": (lambda: compressed(b'{"inputs":' + DEEP, {}), 400, "invalid_request"),
    "a million outputs": (
        lambda: (
            json.dumps({"inputs": [], "outputs": [{"name": "label"}] * 10**6}).encode(),
            {"Content-Type": "application/json"},
        ),
        400,
        "invalid_request",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_limits_hold_for_what_standard_clients_may_send(name: str, squash: Model) -> None:
    make, status, code = HOSTILE[name]
    body, headers = make()
    response = post(squash, "/v2/models/squash/infer", body, headers)

    assert response.status_code == status, response.text
    document = response.json()
    # Whether the handler detects V2 decides the form.
    assert (document.get("code") or document["error"]["code"]) == code
    assert len(response.content) < 500
    check(parsed(squash.post(Call(IMAGE))), squash, SAMPLE)
