"""What misbehaving clients send."""

from __future__ import annotations

from tools.load.misbehaving_clients import http_message
from tools.load.request import TestRequest


def test_request_on_the_wire() -> None:
    request = TestRequest(b"body", {"Gradcam-Targets": "7"})

    assert http_message("http://127.0.0.1:80/predictions/mine", request) == (
        b"POST /predictions/mine HTTP/1.1\r\nHost: 127.0.0.1:80\r\nContent-Length: 4\r\nGradcam-Targets: 7\r\n\r\nbody"
    )
