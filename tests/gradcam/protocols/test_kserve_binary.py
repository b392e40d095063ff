"""Binary tensors of KServe's V2 protocol: requests, replies, and hostile lengths."""

from __future__ import annotations

import gzip
import json
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gradcam.errors import RequestError
from gradcam.images.pixels import RawPixels
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
    cats,
    hats,
    infer,
    outputs,
)
from tests.support.kserve import parse as parse_json

LENGTH = "inference-header-content-length"
PIXELS = np.arange(2 * 2 * 3 * 3, dtype=np.uint8).reshape(2, 2, 3, 3)


def bytes_tensor(*elements: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(element)) + element for element in elements)


def message(document: Any, tail: bytes = b"") -> tuple[bytes, str]:
    """Return a body and the value of its length header."""
    text = json.dumps(document).encode()
    return text + tail, str(len(text))


def parse(body: bytes, length: str, **headers: str) -> RequestGroup:
    payload = Payload(bytearray(body), "application/octet-stream", {LENGTH: length, **headers})
    return dispatch.parse(payload, MODEL, MAX_INSTANCES, MAX_UNPACKED)


def described(data: bytes, shape: list[int], datatype: str = "BYTES", **members: Any) -> dict[str, Any]:
    tensor = {"name": "x", "shape": shape, "datatype": datatype, "parameters": {"binary_data_size": len(data)}}
    return {"inputs": [tensor], **members}


def rejection(body: bytes, length: str, **headers: str) -> RequestError:
    group = parse(body, length, **headers)
    (error,) = group.requests
    assert isinstance(error, RequestError)
    document = json.loads(str(dispatch.render(group, [error], NO_LIMIT).body))
    assert document == {"error": str(error), "code": error.code}
    return error


# ----------------------------------------------------------------------------- requests


def test_encoded_images() -> None:
    data = bytes_tensor(*IMAGES)
    body, length = message(described(data, [3], parameters={"topk": 2, "binary_data_output": True}), data)

    assert parse(body, length).requests == [Request(image, Options(topk=2), images_in_request=3) for image in IMAGES]


@pytest.mark.parametrize("shape", [[2], [1, 2], [2, 1, 1]], ids=str)
def test_shapes_of_encoded_images(shape: list[int]) -> None:
    data = bytes_tensor(*IMAGES[:2])
    group = parse(*message(described(data, shape), data))
    assert [request.image for request in group.requests if isinstance(request, Request)] == IMAGES[:2]


def test_options_are_in_headers_and_in_the_tensor() -> None:
    data = bytes_tensor(IMAGES[0])
    document = described(data, [1])
    document["inputs"][0]["parameters"]["topk"] = 2
    headers: dict[str, Any] = {"gradcam-alpha": "1"}
    (request,) = parse(*message(document, data), **headers).requests
    assert request == Request(IMAGES[0], Options(topk=2, alpha=1.0))


def test_pixels() -> None:
    data = PIXELS.tobytes()
    group = parse(*message(described(data, [2, 2, 3, 3], "UINT8"), data))
    assert [request.image for request in group.requests if isinstance(request, Request)] == [
        RawPixels(3, 2, PIXELS[0].tobytes()),
        RawPixels(3, 2, PIXELS[1].tobytes()),
    ]


@pytest.mark.parametrize("data", [PIXELS.tolist(), PIXELS.ravel().tolist()], ids=["nested", "flat"])
def test_pixels_in_json(data: list[Any]) -> None:
    group = parse_json({"inputs": [{"name": "x", "shape": [2, 2, 3, 3], "datatype": "UINT8", "data": data}]})
    assert [request.image for request in group.requests if isinstance(request, Request)] == [
        RawPixels(3, 2, pixels.tobytes()) for pixels in PIXELS
    ]


def test_the_body_may_be_json_alone() -> None:
    body, length = message(infer(BASE64[0]))
    assert parse(body, length).requests == [Request(IMAGES[0], Options())]
    # TorchServe has parsed the JSON if its content type says so.
    payload = Payload(infer(BASE64[0]), "application/json", {LENGTH: length})
    assert dispatch.parse(payload, MODEL, MAX_INSTANCES, MAX_UNPACKED).requests == [Request(IMAGES[0], Options())]


ONE = bytes_tensor(IMAGES[0])


@pytest.mark.parametrize(
    ("data", "shape", "reason"),
    [
        (ONE, [2], "must have 2 elements according to its shape, got only 1"),
        (ONE + ONE, [1], "must have 1 elements according to its shape, got more"),
        (ONE[:-1], [1], "element 0 has 8 bytes according to the length before it, but only 7"),
        (ONE + b"\x01\x00", [2], "element 1 has no length of 4 bytes before it"),
        (b"\xff\xff\xff\xff" + IMAGES[0], [1], "element 0 has 4,294,967,295 bytes"),
        (ONE, [-1], "must be [n], n images, got [-1]"),
        (ONE, [0], "must be [n], n images, got [0]"),
        (ONE, [], "must be [n], n images, got []"),
        (ONE, [1] * 5, "must be [n], n images"),
        (ONE, [2**62] * 4, "at most 4 images"),
        (ONE, [10**4200] * 4, "must be [n], n images"),
        (b"", [1], "got only 0"),
        (bytes(4 * 10_000), [10_000], "at most 4 images, got 10000"),
    ],
    ids=str,
)
def test_bytes_tensors_that_are_rejected(data: bytes, shape: list[int], reason: str) -> None:
    assert reason in str(rejection(*message(described(data, shape), data)))


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        ([1, 2, 3, 3], "must have 18 values, got 36"),
        ([2, 2, 3], "must be [n, H, W, 3]"),
        ([2, 3, 2, 3, 1], "must be [n, H, W, 3]"),
        ([2, 3, 3, 2], "got [2, 3, 3, 2]"),
        ([2, 0, 3, 3], "got [2, 0, 3, 3]"),
        ([-1, 2, 3, 3], "got [-1, 2, 3, 3]"),
        ([2, 2**40, 2**40, 3], "got 36"),
        ([2**40, 2, 3, 3], "at most 4 images"),
    ],
    ids=str,
)
def test_pixel_tensors_that_are_rejected(shape: list[int], reason: str) -> None:
    data = PIXELS.tobytes()
    assert reason in str(rejection(*message(described(data, shape, "UINT8"), data)))


@pytest.mark.parametrize("data", [[256], [-1], [1.5], ["1"], [None], [10**30], [{}]], ids=str)
def test_values_that_are_not_pixels_are_rejected(data: list[Any]) -> None:
    body = {"inputs": [{"name": "x", "shape": [1, 1, 1, 3], "datatype": "UINT8", "data": [0, 0, *data]}]}
    (error,) = parse_json(body).requests
    assert str(error) == "Values of a UINT8 tensor must be integers from 0 to 255"


def test_a_huge_shape_of_pixels_in_json_is_rejected() -> None:
    body = {"inputs": [{"name": "x", "shape": [1, 2**40, 2**40, 3], "datatype": "UINT8", "data": [0, 0, 0]}]}
    (error,) = parse_json(body).requests
    assert str(error).endswith("values, got 3")


@pytest.mark.parametrize("size", [0, 11, 13, -1, True, "12", None, 12.5, 10**30], ids=str)
def test_sizes_that_are_not_the_tails_are_rejected(size: Any) -> None:
    document = described(ONE, [1])
    document["inputs"][0]["parameters"]["binary_data_size"] = size
    assert f"must be {len(ONE)}, the number of bytes behind the JSON" in str(rejection(*message(document, ONE)))


def test_bytes_without_a_tensor_are_rejected() -> None:
    assert "but no tensor has 'binary_data_size'" in str(rejection(*message(infer(BASE64[0]), b"x")))


def test_a_binary_tensor_without_the_header_is_rejected() -> None:
    (error,) = parse_json(described(ONE, [1])).requests
    assert "needs the header Inference-Header-Content-Length" in str(error)


@pytest.mark.parametrize("length", ["", "-1", "x", "1e3", "²", "9" * 5000, "99", "1.0", "+5"])
def test_lengths_that_are_rejected(length: str) -> None:
    error = rejection(b'{"inputs": []}', length)
    assert "must be the length of the JSON, at most the body's 14 bytes" in str(error)


@pytest.mark.parametrize("text", ["[]", "{", "7", '{"instances": []}', "[" * 100_000])
def test_json_that_is_rejected(text: str) -> None:
    assert "JSON" in str(rejection(text.encode(), str(len(text))))


@pytest.mark.parametrize(
    ("sent", "encoding", "code"),
    [
        (b"no gzip", "gzip", "invalid_request"),
        (b"", "br", "unsupported_encoding"),
        (gzip.compress(bytes(MAX_UNPACKED + 1)), "gzip", "image_too_large"),
    ],
    ids=["invalid", "unsupported", "bomb"],
)
def test_compressed_bodies_that_are_rejected(sent: bytes, encoding: str, code: str) -> None:
    assert rejection(sent, "7", **{"content-encoding": encoding}).code == code


lengths = st.integers(-2, 300).map(str) | st.text(max_size=8)
sizes = st.integers(-1, 60) | st.integers() | st.none() | st.booleans() | st.text(max_size=3)
shapes = st.lists(st.integers(-1, 5) | st.integers(), max_size=5)


@settings(max_examples=600, derandomize=True, deadline=None, database=None)
@given(
    tail=st.binary(max_size=60) | st.lists(st.binary(max_size=9), max_size=6).map(lambda parts: bytes_tensor(*parts)),
    shape=shapes,
    datatype=st.sampled_from(["BYTES", "UINT8", "FP32"]),
    size=sizes | st.just("fits"),
    length=lengths | st.just("fits"),
)
@example(tail=b"\xff\xff\xff\x7f", shape=[1], datatype="BYTES", size="fits", length="fits")
def test_any_binary_request_is_parsed_or_rejected(
    tail: bytes, shape: list[int], datatype: str, size: Any, length: str
) -> None:
    document = described(tail, shape, datatype)
    if size != "fits":
        document["inputs"][0]["parameters"]["binary_data_size"] = size
    body, fitting = message(document, tail)

    group = parse(body, fitting if length == "fits" else length)

    assert 0 < len(group.requests) <= MAX_INSTANCES
    for request in group.requests:
        if isinstance(request, RequestError):
            assert 400 <= request.status < 500
            assert len(str(request)) < 600
        else:
            assert len(request.image) <= len(tail)


# ----------------------------------------------------------------------------- replies


def decoded(reply: Reply) -> tuple[dict[str, Any], dict[str, Any]]:
    """Decode a binary reply independently; return its JSON and its tensors by name."""
    assert isinstance(reply.body, bytes)
    length = int(reply.headers["Inference-Header-Content-Length"])
    document = json.loads(reply.body[:length])
    tail = reply.body[length:]
    for tensor in document["outputs"]:
        if "data" in tensor:
            continue
        size = tensor.pop("parameters")["binary_data_size"]
        part, tail = tail[:size], tail[size:]
        if tensor["datatype"] == "BYTES":
            tensor["data"] = []
            while part:
                (count,) = struct.unpack("<I", part[:4])
                tensor["data"].append(part[4 : 4 + count].decode())
                part = part[4 + count :]
        else:
            kind = {"INT64": "<i8", "FP32": "<f4", "BOOL": "?"}[tensor["datatype"]]
            tensor["data"] = np.frombuffer(part, kind).tolist()
    assert not tail
    return document, outputs(document)


def reply_to(body: dict[str, Any], *results: Any) -> Reply:
    group = parse_json(body)
    requests = [request for request in group.requests if isinstance(request, Request)]
    made = [make if isinstance(make, RequestError) else make(requests[0]) for make in results]
    return dispatch.render(group, made, NO_LIMIT)


def test_all_outputs_in_binary() -> None:
    options = {"explain": 2, "overlay": "png"}
    as_json = reply_to(infer(*BASE64, id="7", parameters=options), hats, cats, NOT_AN_IMAGE)
    binary = reply_to(
        infer(*BASE64, id="7", parameters={**options, "binary_data_output": True}), hats, cats, NOT_AN_IMAGE
    )

    assert (binary.status, binary.content_type, binary.errors) == (200, "application/octet-stream", (NOT_AN_IMAGE,))
    document, tensors = decoded(binary)
    expected = json.loads(str(as_json.body))
    expected_tensors = outputs(expected)
    assert {name: document[name] for name in ("id", "model_name", "model_version", "parameters")} == {
        name: expected[name] for name in ("id", "model_name", "model_version", "parameters")
    }
    assert list(tensors) == list(expected_tensors)
    for name, tensor in tensors.items():
        values, reference = tensor.pop("data"), expected_tensors[name].pop("data")
        assert tensor == expected_tensors[name]
        assert values == (np.float32(reference).tolist() if tensor["datatype"] == "FP32" else reference)


def test_single_outputs_in_binary() -> None:
    requested = [{"name": "label"}, {"name": "heatmap", "parameters": {"binary_data": True}}]
    reply = reply_to(infer(BASE64[0], outputs=requested), hats)

    assert isinstance(reply.body, bytes)
    document = json.loads(reply.body[: int(reply.headers["Inference-Header-Content-Length"])])
    label, heatmap = document["outputs"]
    assert label["data"] == ["cowboy hat", "tabby"]
    assert heatmap["parameters"] == {"binary_data_size": 2 * 2 * 3 * 4}
    assert decoded(reply)[1]["heatmap"]["data"][1] == 1


def test_an_output_may_be_json_although_the_others_are_binary() -> None:
    requested = [{"name": "label", "parameters": {"binary_data": False}}, {"name": "index"}]
    body = infer(BASE64[0], outputs=requested, parameters={"binary_data_output": True})
    reply = reply_to(body, hats)
    assert decoded(reply)[1]["index"]["data"] == [515, 281]
    only_json = infer(BASE64[0], outputs=requested[:1], parameters={"binary_data_output": True})
    assert reply_to(only_json, hats).content_type == "application/json"


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"parameters": {"binary_data_output": "yes"}}, "binary_data_output must be true or false, got 'yes'"),
        (
            {"outputs": [{"name": "label", "parameters": {"binary_data": 1}}]},
            "binary_data must be true or false, got 1",
        ),
        ({"outputs": [{"name": "label", "parameters": 1}]}, "parameters must be an object"),
        ({"outputs": [{"name": "label", "parameters": {"classification": 3}}]}, "'classification' of an output"),
        ({"outputs": [{"name": "label", "parameters": {"shared_memory_region": "x"}}]}, "'shared_memory_region'"),
    ],
    ids=str,
)
def test_requested_outputs_that_are_rejected(members: dict[str, Any], reason: str) -> None:
    (error,) = parse_json(infer(BASE64[0], **members)).requests
    assert reason in str(error)
