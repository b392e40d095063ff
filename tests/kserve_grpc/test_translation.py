"""ModelInfer and V2's binary HTTP form carry the same tensors."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kserve_grpc.messages import MESSAGES
from kserve_grpc.translation import LENGTH_HEADER, InvalidCall, from_http, to_http

# Two elements of a BYTES tensor, each after its length, a little-endian uint32.
RAW = b"\x02\0\0\0ab\x03\0\0\0cde"


def request(*tensors: dict[str, Any], **members: Any) -> Any:
    return MESSAGES["ModelInferRequest"](model_name="m", inputs=tensors, **members)


def split(message: Any) -> tuple[dict[str, Any], bytes]:
    """Return the JSON and the bytes behind it."""
    body, headers = to_http(message)
    length = int(headers[LENGTH_HEADER])
    assert headers["Content-Type"] == "application/octet-stream"
    return json.loads(body[:length]), body[length:]


def test_raw_contents_follow_the_json() -> None:
    tensor = {"name": "image", "datatype": "BYTES", "shape": [2]}
    document, tail = split(request(tensor, raw_input_contents=[RAW]))
    assert tail == RAW
    assert document == {
        "inputs": [{**tensor, "parameters": {"binary_data_size": len(RAW)}}],
        "outputs": [],
        "parameters": {"binary_data_output": True},
    }


def test_typed_contents_become_raw() -> None:
    files = {"name": "image", "datatype": "BYTES", "shape": [2], "contents": {"bytes_contents": [b"ab", b"cde"]}}
    pixels = {"name": "x", "datatype": "UINT8", "shape": [1, 1, 1, 3], "contents": {"uint_contents": [0, 7, 255]}}
    document, tail = split(request(files, pixels))
    assert tail == RAW + b"\0\x07\xff"
    assert [tensor["parameters"]["binary_data_size"] for tensor in document["inputs"]] == [len(RAW), 3]


def test_identifier_parameters_and_outputs() -> None:
    parameters = {
        "topk": {"int64_param": 3},
        "alpha": {"double_param": 0.5},
        "caption": {"bool_param": True},
        "method": {"string_param": "layercam"},
        "priority": {"uint64_param": 2**64 - 1},
        "empty": {},
        "binary_data_output": {"bool_param": False},
    }
    outputs = [{"name": "label", "parameters": {"classification": {"int64_param": 1}}}, {"name": "heatmap"}]
    tensor = {"name": "image", "datatype": "BYTES", "shape": [2], "parameters": {"explain": {"int64_param": 2}}}
    document, _ = split(request(tensor, id="7", parameters=parameters, outputs=outputs, raw_input_contents=[RAW]))
    assert document["id"] == "7"
    assert document["parameters"] == {
        "topk": 3,
        "alpha": 0.5,
        "caption": True,
        "method": "layercam",
        "priority": 2**64 - 1,
        "empty": "",
        "binary_data_output": True,
    }
    assert document["outputs"] == [
        {"name": "label", "parameters": {"classification": 1, "binary_data": True}},
        {"name": "heatmap", "parameters": {"binary_data": True}},
    ]
    assert document["inputs"][0]["parameters"] == {"explain": 2, "binary_data_size": len(RAW)}


@pytest.mark.parametrize("count", [1, 3])
def test_raw_contents_must_match_the_inputs(count: int) -> None:
    tensors = [{"name": name, "datatype": "BYTES", "shape": [2]} for name in "ab"]
    with pytest.raises(InvalidCall, match=f"each of the 2 inputs, got {count}"):
        to_http(request(*tensors, raw_input_contents=[RAW] * count))


def test_pixels_must_be_bytes() -> None:
    tensor = {"name": "x", "datatype": "UINT8", "shape": [1, 1, 1, 3], "contents": {"uint_contents": [0, 7, 256]}}
    with pytest.raises(InvalidCall, match="from 0 to 255"):
        to_http(request(tensor))


def test_response() -> None:
    document = {
        "model_name": "m",
        "model_version": "1.0",
        "id": "7",
        "parameters": {"method": "gradcam"},
        "outputs": [
            {"name": "label", "datatype": "BYTES", "shape": [1, 2], "parameters": {"binary_data_size": len(RAW)}},
            {"name": "index", "datatype": "INT64", "shape": [1, 1], "parameters": {"binary_data_size": 8}},
        ],
    }
    head = json.dumps(document).encode()
    response = from_http(head + RAW + bytes(range(8)), len(head))
    assert (response.model_name, response.model_version, response.id) == ("m", "1.0", "7")
    assert response.parameters["method"].string_param == "gradcam"
    described = [(output.name, output.datatype, list(output.shape)) for output in response.outputs]
    assert described == [("label", "BYTES", [1, 2]), ("index", "INT64", [1, 1])]
    assert list(response.raw_output_contents) == [RAW, bytes(range(8))]
