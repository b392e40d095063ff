"""Errors of the proxy are JSON in the form of the protocol that the client speaks."""

from __future__ import annotations

import dataclasses
import json
import threading
from pathlib import Path
from typing import Any

import pytest

from gradcam.options import Options
from tests.proxy.conftest import Proxied
from tests.support import http_client
from tests.support.fake_torchserve import Received, Reply
from tests.support.proxy import SECONDS, Proxy, proxy

PREDICT, INFER = "/predictions/m", "/v2/models/m/infer"
CODES = {
    400: "bad_request",
    408: "request_timeout",
    413: "request_too_large",
    429: "too_many_requests",
    500: "proxy_error",
    502: "bad_gateway",
    503: "unavailable",
    504: "gateway_timeout",
}


def parsed(response: bytes) -> tuple[int, Any]:
    """Return status and JSON of a response."""
    head, _, body = response.partition(b"\r\n\r\n")
    assert b"content-type: application/json" in head.lower()
    return int(head.split()[1]), json.loads(body)


def check_forms(front: Proxy, status: int) -> None:
    """Check the error that both protocols receive."""
    plain = http_client.post(f"{front.url}{PREDICT}", data=b"x")
    kserve = http_client.post(f"{front.url}{INFER}", json={})
    assert (plain.status_code, kserve.status_code) == (status, status)
    error = plain.json()["error"]
    assert set(error) == {"code", "message"}
    assert error["code"] == CODES[status]
    assert kserve.json() == {"error": error["message"], "code": CODES[status]}


def test_no_response(proxied: Proxied) -> None:
    proxied.inference.reply = lambda request: Reply(drop=True)
    check_forms(proxied.proxy, 502)


def test_no_connection(proxied: Proxied, tmp_path: Path) -> None:
    with proxy(tmp_path, 9, proxied.management.port) as front:
        check_forms(front, 503)


def test_no_response_in_time(proxied: Proxied, tmp_path: Path) -> None:
    release = threading.Event()

    def reply(request: Received) -> Reply:
        assert release.wait(SECONDS)
        return Reply(drop=True)

    proxied.inference.reply = reply
    changes = {"timeout server 180s": "timeout server 100ms"}
    with proxy(tmp_path, proxied.inference.port, proxied.management.port, changes=changes) as front:
        try:
            check_forms(front, 504)
        finally:
            release.set()


@pytest.mark.parametrize("status", [400, 408, 413, 429, 500])
def test_rejection_by_a_rule(proxied: Proxied, tmp_path: Path, status: int) -> None:
    """A rule in each backend, as an operator would add one, stands for causes that are hard to produce."""
    changes = {
        f"backend {name} from {base}\n": f"backend {name} from {base}\n    http-request deny deny_status {status}\n"
        for name, base in (("torchserve", "base"), ("torchserve_v2", "v2"))
    }
    with proxy(tmp_path, proxied.inference.port, proxied.management.port, changes=changes) as front:
        check_forms(front, status)


@pytest.mark.parametrize(
    "lines",
    [
        ("Content-Length: -5",),
        ("Content-Length: 1", "Content-Length: 2"),
        ("Content-Length: x",),
        ("no header",),
        (f"X-Long: {'x' * 17_000}",),
    ],
    ids=lambda lines: lines[0][:20],
)
def test_request_that_is_no_http_is_rejected_at_once(proxied: Proxied, lines: tuple[str, ...]) -> None:
    head = "\r\n".join([f"POST {PREDICT} HTTP/1.1", "Host: x", *lines])
    # HAProxy 2.6 has one fixed page for these.
    assert proxied.proxy.exchange(f"{head}\r\n\r\n".encode()).startswith(b"HTTP/1.1 400 ")
    assert proxied.inference.received == []


def test_form_that_does_not_arrive(proxied: Proxied, tmp_path: Path) -> None:
    ports = proxied.inference.port, proxied.management.port
    head = f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 9"
    with proxy(tmp_path, *ports, changes={"wait-for-body time 60s": "wait-for-body time 100ms"}) as front:
        status, answer = parsed(front.exchange(f"{head}\r\n\r\na=".encode()))
    assert (status, answer["error"]["code"]) == (408, "request_timeout")


@pytest.mark.parametrize("status", [400, 404, 405, 413, 500, 503, 507])
def test_torchserve_error_is_a_text_in_v2(proxied: Proxied, status: int) -> None:
    document = {"code": status, "type": "ModelNotFoundException", "message": 'Model "m"\nnot found: ü'}
    proxied.inference.reply = lambda request: Reply.json(document, status)
    response = http_client.post(f"{proxied.proxy.url}{INFER}", json={})
    assert response.status_code == status
    assert response.json() == {"error": document["message"], "code": "ModelNotFoundException"}
    # Other protocols receive TorchServe's error as it is.
    response = http_client.post(f"{proxied.proxy.url}{PREDICT}", data=b"x")
    assert (response.status_code, response.json()) == (status, document)


def test_error_of_the_handler_stays(proxied: Proxied) -> None:
    document = {"error": "Unknown class 'x'", "code": "unknown_class"}
    for status in (400, 422):
        reply = Reply.json(document, status)
        proxied.inference.reply = lambda request, reply=reply: reply  # type: ignore[misc]
        response = http_client.post(f"{proxied.proxy.url}{INFER}", json={})
        assert (response.status_code, response.json()) == (status, document)


@pytest.mark.parametrize("status", [400, 413, 415, 422])
def test_error_of_a_body_that_the_handler_does_not_recognize_is_a_text_in_v2(proxied: Proxied, status: int) -> None:
    document = {"error": {"code": "invalid_request", "message": 'Body is not valid JSON: "ü"'}}
    proxied.inference.reply = lambda request: Reply.json(document, status)
    response = http_client.post(f"{proxied.proxy.url}{INFER}", data=b"{")
    assert response.status_code == status
    assert response.json() == {"error": document["error"]["message"], "code": "invalid_request"}
    response = http_client.post(f"{proxied.proxy.url}{PREDICT}", data=b"{")
    assert (response.status_code, response.json()) == (status, document)


@pytest.mark.parametrize("option", sorted({field.name for field in dataclasses.fields(Options)}))
@pytest.mark.parametrize("path", [PREDICT, "/explanations/m/1.0", "/v1/models/m:predict", INFER])
def test_option_in_the_query_is_an_error(proxied: Proxied, path: str, option: str) -> None:
    for query in (f"{option}=1", f"a=b&{option}=1&c=d"):
        response = http_client.post(f"{proxied.proxy.url}{path}?{query}", json={})
        error = response.json()["error"]
        message = error if path == INFER else error["message"]
        assert response.status_code == 400
        assert message.startswith("Options in the query have no effect; send them as ")
    assert proxied.inference.received == []


@pytest.mark.parametrize("path", ["/predictions/m?t=1", "/predictions/m?stopk=1", "/models/m/invoke?topk=1"])
def test_other_queries_stay(proxied: Proxied, path: str) -> None:
    assert http_client.post(f"{proxied.proxy.url}{path}", json={}).status_code == 200
    assert [request.target for request in proxied.inference.received] == [path]


def test_version_in_a_v2_path_selects_it(proxied: Proxied) -> None:
    response = http_client.post(f"{proxied.proxy.url}/v2/models/m/versions/2.0/infer", json={"inputs": []})
    assert response.json() == {"inputs": []}
    (request,) = proxied.inference.received
    assert request.target == "/predictions/m/2.0"
    document = {"code": 404, "type": "ModelVersionNotFoundException", "message": "Model version: 7 does not exist"}
    proxied.inference.reply = lambda request: Reply.json(document, 404)
    response = http_client.post(f"{proxied.proxy.url}/v2/models/m/versions/7/infer", json={"inputs": []})
    assert (response.status_code, response.json()["error"]) == (404, document["message"])
