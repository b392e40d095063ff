"""Requests as standard clients send them, answered by TorchServe alone."""

from __future__ import annotations

import base64
import gzip
import json
import zlib
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
