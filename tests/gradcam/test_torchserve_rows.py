"""Rows and headers of TorchServe, translated to payloads."""

from __future__ import annotations

from typing import Any

import pytest

import torchserve_rows
from gradcam.protocols.dispatch import Form, Payload

IMAGE = b"\x89PNG\r\n\x1a\n\xff\xfe"
DOCUMENT = {"image": "AAAA"}
# Over gRPC TorchServe sends what it knows of each input's content in place of headers.
GRPC = {"body": {"content-type": "application/json"}}


@pytest.mark.parametrize(
    ("row", "body"),
    [
        ({"body": IMAGE}, IMAGE),
        ({"body": bytearray(IMAGE)}, bytearray(IMAGE)),
        ({"body": "AAAA"}, "AAAA"),
        ({"body": DOCUMENT}, DOCUMENT),
        ({"body": [1]}, [1]),
        ({"body": None}, None),
        ({"body": DOCUMENT, "topk": b"3"}, DOCUMENT),
        ({"data": IMAGE, "topk": b"3"}, Form({"data": IMAGE, "topk": b"3"})),
        ({"body": IMAGE, "topk": b"3"}, Form({"body": IMAGE, "topk": b"3"})),
        ({"instances": b"[]"}, Form({"instances": b"[]"})),
        ({}, Form({})),
    ],
    ids=str,
)
def test_body(row: dict[str, Any], body: Any) -> None:
    assert torchserve_rows.payload(row, {"Host": "localhost"}).body == body


def test_headers_are_lower_case_text() -> None:
    headers = {"Host": "localhost", "Content-Type": "Image/PNG", "GRADCAM-Topk": "3", "data": {"content-type": ""}}
    payload = torchserve_rows.payload({"body": IMAGE}, headers)
    text = {"host": "localhost", "content-type": "Image/PNG", "gradcam-topk": "3"}
    assert payload == Payload(IMAGE, "Image/PNG", text)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [({"explain": "True"}, True), ({"Explain": "true"}, True), ({"explain": "False"}, False), ({}, False)],
    ids=str,
)
def test_explain_header(headers: dict[str, str], expected: bool) -> None:
    assert torchserve_rows.payload({"body": DOCUMENT}, headers).explain is expected


@pytest.mark.parametrize(
    ("headers", "expected"),
    [({}, True), (GRPC, True), ({**GRPC, "Host": "localhost"}, False), ({"content-length": "1"}, False)],
    ids=str,
)
def test_grpc_is_recognized_by_its_headers(headers: dict[str, Any], expected: bool) -> None:
    assert torchserve_rows.is_grpc(headers) is expected
    assert torchserve_rows.payload({"body": DOCUMENT}, headers).grpc is expected


def test_headers_in_utf8_are_repaired() -> None:
    read_as_latin1 = "grünes Dreieck, 猫".encode().decode("latin-1")
    headers = {"Gradcam-Targets": read_as_latin1, "Gradcam-Layer": "grün", "Gradcam-Method": "猫"}
    assert torchserve_rows.payload({"body": IMAGE}, headers).headers == {
        "gradcam-targets": "grünes Dreieck, 猫",
        "gradcam-layer": "grün",
        "gradcam-method": "猫",
    }


@pytest.mark.parametrize(
    ("row", "body"),
    [
        ({"body": IMAGE, "model_name": b"squash"}, IMAGE),
        ({"body": DOCUMENT, "model_name": b"squash"}, DOCUMENT),
        ({"data": IMAGE, "model_name": b"squash"}, Form({"data": IMAGE})),
    ],
    ids=str,
)
def test_the_model_name_of_invocations_is_no_option(row: dict[str, Any], body: Any) -> None:
    assert torchserve_rows.payload(row, {"Host": "localhost"}).body == body
