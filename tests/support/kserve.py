"""Requests and results in KServe's protocols, for the tests of both versions."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np

from gradcam.errors import RequestError, UndecodableImage, UnknownName
from gradcam.images.geometry import Region
from gradcam.message import Explanation, Prediction, Reply, Request, RequestGroup, Result, ServedModel
from gradcam.protocols import dispatch
from gradcam.protocols.dispatch import Payload

IMAGES = [b"\x89PNG one", b"\xff\xd8 two", b"RIFF three"]
BASE64 = [base64.b64encode(image).decode() for image in IMAGES]
MODEL = ServedModel("hats", "2.0", "0123456789ab")
MAX_INSTANCES = 4
NO_LIMIT = 10**9
MAX_UNPACKED = 10_000

HAT, CAT, JAY = Prediction(515, "cowboy hat", 0.61572345), Prediction(281, "tabby", 0.25), Prediction(17, "jay", 1e-9)
NOT_AN_IMAGE = UndecodableImage("these 3 bytes are not an image")
UNKNOWN = UnknownName("Unknown class 'cart'", code="unknown_class")


# ----------------------------------------------------------------------------- requests


def parse(body: Any, *, explain: bool = False, **headers: str) -> RequestGroup:
    """Parse a body that came over HTTP; headers are named with underscores."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return dispatch.parse(Payload(body, "application/json", names, explain=explain), MODEL, MAX_INSTANCES, MAX_UNPACKED)


def requests(body: Any, **headers: Any) -> list[Request]:
    """Return the requests of a body in which none is invalid."""
    parsed = parse(body, **headers).requests
    assert all(isinstance(request, Request) for request in parsed), parsed
    return [request for request in parsed if isinstance(request, Request)]


def rejection(body: Any, **headers: Any) -> RequestError:
    """Return the error of a body that is invalid as a whole."""
    (error,) = parse(body, **headers).requests
    assert isinstance(error, RequestError)
    return error


def answer(body: Any, *results: Result | RequestError) -> tuple[Reply, Any]:
    """Return the reply to a body with these results, and its JSON."""
    reply = dispatch.render(parse(body), results, NO_LIMIT)
    assert isinstance(reply.body, str)
    return reply, json.loads(reply.body)


def infer(*images: Any, shape: Any = None, **members: Any) -> dict[str, Any]:
    """Return the body of a V2 request."""
    tensor = {"name": "image", "shape": shape or [len(images)], "datatype": "BYTES", "data": list(images)}
    return {"inputs": [tensor], **members}


def outputs(document: Any) -> dict[str, Any]:
    """Return the tensors of a V2 reply by name."""
    return {tensor.pop("name"): tensor for tensor in document["outputs"]}


# ----------------------------------------------------------------------------- results


def result(request: Request, predictions: list[Prediction], explanations: list[Explanation]) -> Result:
    """Return the result of a request at two fused layers."""
    region = Region(1, 2, 31, 42)
    return Result(request, predictions, explanations, "layercam", ("layer4", "layer3"), 33, 44, region, MODEL)


def hats(request: Request) -> Result:
    """Return a result with one explanation that has evidence and one that has none."""
    explained = Explanation(HAT, np.array([[0, 1, 0.5], [0.25, 0, 1 / 3]], np.float32), 2.5, (12, 7), b"hat")
    return result(request, [HAT, CAT], [explained, Explanation(JAY, np.zeros((2, 3), np.float32), 0.0, None, b"jay")])


def cats(request: Request) -> Result:
    """Return a result with two equal explanations."""
    explained = Explanation(CAT, np.full((2, 3), 1, np.float32), 1.23456789e-7, (0, 0), b"cat")
    return result(request, [CAT, JAY], [explained, explained])
