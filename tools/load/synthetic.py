"""Requests that can be told apart by their answers."""

from __future__ import annotations

import io
import json

import numpy as np
from PIL import Image

from tools.load.request import TestRequest


def make_requests(valid: int, invalid: int = 0) -> list[TestRequest]:
    """Return this many valid and invalid requests, each with its own answer."""
    return [valid_request(number) for number in range(valid)] + [invalid_request(number) for number in range(invalid)]


def valid_request(number: int) -> TestRequest:
    """Return an image of a unique size with a request to explain the class `number`."""
    coarse = np.random.default_rng(number).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((200 + 3 * number, 150 + 2 * number), Image.Resampling.BICUBIC)
    return TestRequest(encoded(image, "jpeg"), {"Gradcam-Targets": str(number)})


def encoded(image: Image.Image, kind: str) -> bytes:
    """Return an image as a file of a format."""
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def invalid_request(number: int) -> TestRequest:
    """Return a request that is rejected with a unique message."""
    body = valid_request(number).body
    kinds = (
        TestRequest(b"not an image" + b"." * number),
        TestRequest(body, {"Gradcam-Targets": f"no such class {number}"}),
        TestRequest(body, {"Gradcam-Alpha": str(2 + number)}),
        TestRequest(body, {"Gradcam-Method": f"no such method {number}"}),
        TestRequest(
            json.dumps({f"no such option {number}": 1, "image": ""}).encode(), {"Content-Type": "application/json"}
        ),
        TestRequest(body, {"Gradcam-Layer": f"layer{100 + number}"}),
    )
    return kinds[number % len(kinds)]
