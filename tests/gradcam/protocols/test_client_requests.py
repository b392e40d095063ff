"""Recorded requests of the real clients of KServe and Triton are parsed to their image."""

from __future__ import annotations

import pytest

import torchserve_rows
from gradcam.images.pixels import RawPixels
from gradcam.message import Request
from gradcam.options import Options
from gradcam.protocols import dispatch
from tests.support.client_requests import FILE, PIXELS, REQUESTS
from tests.support.kserve import MAX_INSTANCES, MAX_UNPACKED, MODEL


@pytest.mark.parametrize("name", REQUESTS)
def test_a_recorded_request_is_one_image(name: str) -> None:
    recorded = REQUESTS[name]
    row = {"body": bytearray(recorded.body)}
    payload = torchserve_rows.payload(row, {"Host": "localhost", **recorded.headers})

    (request,) = dispatch.parse(payload, MODEL, MAX_INSTANCES, MAX_UNPACKED).requests

    image = RawPixels(24, 16, PIXELS.tobytes()) if "pixels" in name else FILE
    assert request == Request(image, Options())
