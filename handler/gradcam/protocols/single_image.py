"""One image per request, as bytes, form or JSON; the reply is JSON or the overlay itself."""

from __future__ import annotations

import base64
import binascii
import json
import re
import string
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gradcam import options
from gradcam.errors import InvalidRequest, RequestError, truncated_repr
from gradcam.explain.boxes import Box
from gradcam.images.pixels import RawPixels
from gradcam.message import Explanation, Prediction, Reply, Request, RequestGroup, Result
from gradcam.options import Encoding

JSON = "application/json"
IMAGE_FIELDS = ("data", "body", "image")
WHITE_SPACE = string.whitespace.encode()
BASE64_CHARACTERS = f"{string.ascii_letters}{string.digits}+/=".encode() + WHITE_SPACE


# ----------------------------------------------------------------------------- request


def read(fields: Mapping[str, Any], header_options: Mapping[str, Any], accept: str) -> RequestGroup:
    """Parse a request of one image.

    Args:
        fields: the image, and options.
        header_options: options from headers, which apply where the fields say nothing else.
        accept: the `Accept` header, which selects JSON or an image as the reply.

    Raises:
        InvalidRequest: the fields have no image.
        InvalidOption: an option does not exist, or its value is invalid.
    """
    return RequestGroup([request(fields, [header_options], accept=encoding(accept))], reply)


def request(
    fields: Mapping[str, Any],
    general_options: Sequence[Mapping[str, Any]],
    accept: Encoding | None = None,
    images_in_request: int = 1,
) -> Request:
    """Parse an image and its options.

    Args:
        fields: the image, and options.
        general_options: options that apply where the fields say nothing else, the most general mapping first.
        accept: encoding of the overlay that replaces the JSON reply.
        images_in_request: number of images in the request group.

    Raises:
        InvalidRequest, InvalidOption: as `read`.
    """
    image = next((image_bytes(fields[name]) for name in IMAGE_FIELDS if name in fields), None)
    if image is None:
        raise InvalidRequest(
            "Request has no image; send the image as the body, as the form field 'data', "
            'or as JSON {"image": "<base64>"}'
        )
    own_options = {name: value for name, value in fields.items() if name not in IMAGE_FIELDS}
    return Request(image, options.parse([*general_options, own_options]), accept, images_in_request)


def image_bytes(value: Any) -> bytes | RawPixels:
    """Return an image's bytes from bytes, base64, a `data:` URL, or `{"b64": "<base64>"}`; raw pixels unchanged.

    Raises:
        InvalidRequest: the value has another form.
    """
    if isinstance(value, RawPixels):
        return value
    if isinstance(value, bytes | bytearray):
        return bytes(value)
    if isinstance(value, Mapping) and isinstance(value.get("b64"), str):
        value = value["b64"]
    if not isinstance(value, str):
        raise InvalidRequest(f"Image must be bytes, or base64 in a JSON string, got {truncated_repr(value)}")
    value = value.strip()
    encoded = re.sub(r"\s+", "", value.partition(",")[2] if value.startswith("data:") else value)
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidRequest(f"Image is not valid base64 ({error})") from error


def from_base64(value: Any) -> Any:
    """Return the bytes of a form field that is base64 or a `data:` URL, and any other value unchanged.

    Every image format has bytes that base64 lacks, so a file is never mistaken for text.
    """
    if not isinstance(value, bytes | bytearray):
        return value
    encoded = value.partition(b",")[2] if value.lstrip()[:5] == b"data:" else value
    if not encoded.strip() or encoded.translate(None, BASE64_CHARACTERS):
        return value
    try:
        return base64.b64decode(encoded.translate(None, WHITE_SPACE), validate=True)
    except binascii.Error:
        return value


def encoding(accept: str) -> Encoding | None:
    """Return the image encoding that an `Accept` header prefers, or None if it prefers JSON."""
    acceptable = [entry for entry in _media_types(accept) if entry[1] > 0]
    preferred = max(acceptable, key=lambda entry: entry[1], default=("*/*", 1.0))[0]
    encodings: dict[str, Encoding] = {"image/png": "png", "image/jpeg": "jpeg", "image/*": "png"}
    return encodings.get(preferred)


def _media_types(accept: str) -> list[tuple[str, float]]:
    entries = []
    for entry in accept.lower().split(","):
        media_type, *parameters = (part.strip() for part in entry.split(";"))
        quality = next((part[2:] for part in parameters if part.startswith("q=")), "1")
        if media_type:
            entries.append((media_type, float(quality) if re.fullmatch(r"[01](\.\d{0,3})?", quality) else 0.0))
    return entries


# ----------------------------------------------------------------------------- reply


def reply(results: Sequence[Result | RequestError]) -> Reply:
    """Render the result of a request of one image; an error is always JSON."""
    (result,) = results
    if isinstance(result, RequestError):
        return rejection(result)
    if result.request.accept is not None:
        return Reply(200, "OK", f"image/{result.request.accept}", result.explanations[0].overlay or b"")
    return Reply(200, "OK", JSON, to_json(document(result)))


def rejection(error: RequestError) -> Reply:
    """Render an error."""
    return Reply(error.status, error.phrase, JSON, to_json(document(error)), (error,))


def document(result: Result | RequestError) -> dict[str, Any]:
    """Return the JSON document of one image's result."""
    if isinstance(result, RequestError):
        return {"error": {"code": result.code, "message": str(result)}}
    return {
        "predictions": [_prediction(prediction) for prediction in result.predictions],
        "explanations": [_explanation(explanation, result.request) for explanation in result.explanations],
        "method": result.method,
        "layer": result.layers[0] if len(result.layers) == 1 else result.layers,
        "image": {
            "width": result.width,
            "height": result.height,
            "region": [result.region.left, result.region.top, result.region.right, result.region.bottom],
        },
        "model": {"name": result.model.name, "version": result.model.version, "weights": result.model.weights},
    }


def _prediction(prediction: Prediction) -> dict[str, Any]:
    return {
        "index": prediction.index,
        "label": prediction.label,
        "probability": rounded(prediction.probability),
    }


def _explanation(explanation: Explanation, request: Request) -> dict[str, Any]:
    members = {**_prediction(explanation.prediction), "evidence": explanation.evidence}
    if request.options.heatmap == "grid":
        members["heatmap"] = heatmap(explanation)
    members["peak"] = explanation.peak
    members["strength"] = rounded(explanation.strength)
    if explanation.versus is not None:
        members["versus"] = _prediction(explanation.versus)
    if explanation.boxes is not None:
        members["boxes"] = boxes(explanation.boxes)
    if explanation.overlay is not None:
        members["overlay"] = data_url(explanation.overlay, request)
    return members


def rounded(number: float) -> float:
    """Return a probability or strength with the six digits that float32 has."""
    return float(f"{number:.6g}")


def heatmap(explanation: Explanation) -> list[list[float]]:
    """Return the map as rows of numbers with six decimals."""
    rows: list[list[float]] = explanation.heatmap.astype(np.float64).round(6).tolist()
    return rows


def boxes(found: Sequence[Box]) -> list[dict[str, Any]]:
    """Return boxes with their area in pixels and the mean of the map."""
    return [{"box": box.rectangle, "area": box.area, "mean": rounded(box.mean)} for box in found]


def data_url(overlay: bytes, request: Request) -> str:
    """Return the overlay as a `data:` URL."""
    return f"data:image/{request.encoding};base64,{base64.b64encode(overlay).decode('ascii')}"


def to_json(document: Mapping[str, Any] | list[Any]) -> str:
    """Return JSON without white space, in ASCII."""
    return json.dumps(document, separators=(",", ":"), allow_nan=False)
