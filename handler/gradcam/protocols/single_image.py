"""One picture a message, as bytes, form or JSON; the answer as JSON, or the overlay itself."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gradcam import options
from gradcam.errors import InvalidOption, InvalidRequest, RequestError, truncated_repr
from gradcam.message import Explanation, Prediction, Reply, Request, RequestGroup, Result
from gradcam.options import Encoding

JSON = "application/json"
PICTURE_FIELDS = ("data", "body", "image")


# ----------------------------------------------------------------------------- request


def read(fields: Mapping[str, Any], defaults: Mapping[str, Any], accept: str) -> RequestGroup:
    """Reads a message of one picture.

    Args:
        fields: the picture, and options.
        defaults: further options, which count where the fields say nothing else.
        accept: the header that decides between JSON and picture.

    Raises:
        InvalidRequest: there is no picture in it.
        InvalidOption: an option that does not exist, or a value that it cannot take.
    """
    asked = request(fields, defaults, accept=encoding(accept))
    if asked.accept and asked.options.targets is None and asked.options.explain == 0:
        raise InvalidOption("explain: 0 leaves nothing to draw, but 'Accept' asks for a picture; ask for JSON")
    return RequestGroup([asked], reply)


def request(
    fields: Mapping[str, Any], defaults: Mapping[str, Any], accept: Encoding | None = None, images_in_request: int = 1
) -> Request:
    """Reads a picture and its options.

    Raises:
        InvalidRequest, InvalidOption: as above.
    """
    found = next((picture(fields[name]) for name in PICTURE_FIELDS if name in fields), None)
    if found is None:
        raise InvalidRequest(
            "there is no picture in the request; send its bytes as the body, as the form field 'data', "
            'or as JSON {"image": "<base64>"}'
        )
    given = {name: value for name, value in fields.items() if name not in PICTURE_FIELDS}
    return Request(found, options.read(given, defaults), accept, images_in_request)


def picture(value: Any) -> bytes:
    """Returns the bytes of a picture that is given as such, or as base64, with or without `data:` in front.

    Raises:
        InvalidRequest: it is neither.
    """
    if isinstance(value, bytes | bytearray):
        return bytes(value)
    if isinstance(value, Mapping) and isinstance(value.get("b64"), str):
        value = value["b64"]
    if not isinstance(value, str):
        raise InvalidRequest(f"the picture must be bytes, or base64 in a JSON string, not {truncated_repr(value)}")
    value = value.strip()
    encoded = re.sub(r"\s+", "", value.partition(",")[2] if value.startswith("data:") else value)
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidRequest(f"the picture is not valid base64: {error}") from error


def encoding(accept: str) -> Encoding | None:
    """Returns the picture's encoding if the client prefers a picture, None if JSON."""
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
    """Returns the reply to a message of one picture; a refusal is always JSON."""
    (result,) = results
    if isinstance(result, RequestError):
        return refusal(result)
    if result.request.accept is not None:
        return Reply(200, "OK", f"image/{result.request.accept}", result.explanations[0].overlay or b"")
    return Reply(200, "OK", JSON, to_json(document(result)))


def refusal(error: RequestError) -> Reply:
    """Returns the reply that says what is wrong."""
    return Reply(error.status, error.phrase, JSON, to_json(document(error)), (error,))


def document(result: Result | RequestError) -> dict[str, Any]:
    """Returns what JSON says about one picture."""
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
    }


def _prediction(prediction: Prediction) -> dict[str, Any]:
    return {
        "index": prediction.index,
        "label": prediction.label,
        "probability": rounded(prediction.probability),
    }


def _explanation(explanation: Explanation, asked: Request) -> dict[str, Any]:
    said = {**_prediction(explanation.prediction), "evidence": explanation.evidence}
    if asked.options.heatmap == "grid":
        said["heatmap"] = heatmap(explanation)
    said["peak"] = explanation.peak
    if explanation.overlay is not None:
        said["overlay"] = data_url(explanation.overlay, asked)
    return said


def rounded(probability: float) -> float:
    """Returns a probability with the digits that float32 has."""
    return float(f"{probability:.6g}")


def heatmap(explanation: Explanation) -> list[list[float]]:
    """Returns the map as rows of numbers of six decimals."""
    rows: list[list[float]] = explanation.heatmap.astype(np.float64).round(6).tolist()
    return rows


def data_url(overlay: bytes, asked: Request) -> str:
    """Returns the overlay as text."""
    return f"data:image/{asked.encoding};base64,{base64.b64encode(overlay).decode('ascii')}"


def to_json(said: Mapping[str, Any]) -> str:
    """Returns JSON without white space, in ASCII."""
    return json.dumps(said, separators=(",", ":"), allow_nan=False)
