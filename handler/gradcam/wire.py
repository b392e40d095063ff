"""A row of TorchServe's batch to a `Request`, and a `Result` to a `Reply`."""

from __future__ import annotations

import base64
import binascii
import csv
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from gradcam.errors import InvalidOption, InvalidRequest, RequestError, near_names, shown
from gradcam.images import Region

Encoding = Literal["png", "jpeg"]

HEADER_PREFIX = "gradcam-"
PICTURE_FIELDS = ("data", "body", "image")


# ----------------------------------------------------------------------------- request


@dataclass(frozen=True)
class Options:
    """What a request asks for; a default says what is meant when the option is not given."""

    topk: int | None = None
    """How many classes to predict; None: the model's default."""
    targets: tuple[int | str, ...] | None = None
    """The classes to explain, by index or label; None: the `explain` most probable ones."""
    explain: int = 1
    method: str | None = None
    """None: the model's."""
    layer: tuple[str, ...] | None = None
    """One layer, or several whose maps are fused; None: the model's."""
    smooth: bool = False
    """Whether to average over flipped and scaled versions of the picture."""
    heatmap: Literal["grid", "none"] = "grid"
    overlay: Literal["png", "jpeg", "none"] = "none"
    colormap: str = "jet"
    alpha: float = 0.4
    """Share of the colour in the overlay, in [0, 1]."""


@dataclass(frozen=True)
class Request:
    """One picture and what is asked about it."""

    image: bytes
    options: Options
    accept: Encoding | None = None
    """The answer is to be the overlay itself, in this encoding, instead of JSON."""

    @property
    def encoding(self) -> Encoding | None:
        """Of the overlay; None where no overlay is asked for."""
        return self.accept or (None if self.options.overlay == "none" else self.options.overlay)


def parse(row: Mapping[str, Any], headers: Mapping[str, Any]) -> Request:
    """Reads one request: raw body, form, JSON or gRPC inputs; options there or as `Gradcam-…` headers.

    Args:
        row: TorchServe's dict for the request, field to bytes, text or parsed JSON.
        headers: the request's headers, in any case.

    Raises:
        InvalidRequest: there is no picture in it.
        InvalidOption: an option that does not exist, or a value that it cannot take.
    """
    lowered = {name.lower(): value for name, value in headers.items() if isinstance(value, str)}
    fields = _fields(row, lowered)
    image = next((_image(fields[name]) for name in PICTURE_FIELDS if name in fields), None)
    if image is None:
        raise InvalidRequest(
            "there is no picture in the request; send its bytes as the body, as the form field 'data', "
            'or as JSON {"image": "<base64>"}'
        )
    from_headers = {
        name.removeprefix(HEADER_PREFIX): value for name, value in lowered.items() if name.startswith(HEADER_PREFIX)
    }
    from_fields = {name: value for name, value in fields.items() if name not in PICTURE_FIELDS}
    options = _options({**from_headers, **from_fields})
    return _with_accept(Request(image, options), lowered.get("accept", ""))


def _fields(row: Mapping[str, Any], headers: Mapping[str, str]) -> Mapping[str, Any]:
    body = row.get("body")
    if isinstance(body, bytes | bytearray) and headers.get("content-type", "").lower().startswith("application/json"):
        body = _parsed(body)  # TorchServe parses it only where the content type is spelled in one way
    if isinstance(body, Mapping):
        return body
    if body is not None and not isinstance(body, bytes | bytearray | str):
        raise InvalidRequest(f'the JSON must be an object {{"image": "<base64>", …}}, not {shown(body)}')
    return row


def _parsed(body: bytes | bytearray) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest("the body is not valid JSON, which its content type says it is") from error


def _image(value: Any) -> bytes:
    if isinstance(value, bytes | bytearray):
        return bytes(value)
    if isinstance(value, Mapping) and isinstance(value.get("b64"), str):
        value = value["b64"]
    if not isinstance(value, str):
        raise InvalidRequest(f"the picture must be bytes, or base64 in a JSON string, not {shown(value)}")
    value = value.strip()
    encoded = re.sub(r"\s+", "", value.partition(",")[2] if value.startswith("data:") else value)
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidRequest(f"the picture is not valid base64: {error}") from error


def _with_accept(request: Request, accept: str) -> Request:
    """Decides between JSON and picture, by the media type that the client prefers."""
    acceptable = [entry for entry in _media_types(accept) if entry[1] > 0]
    preferred = max(acceptable, key=lambda entry: entry[1], default=("*/*", 1.0))[0]
    encodings: dict[str, Encoding] = {"image/png": "png", "image/jpeg": "jpeg", "image/*": "png"}
    if preferred not in encodings:
        return request
    if request.options.targets is None and request.options.explain == 0:
        raise InvalidOption("explain: 0 leaves nothing to draw, but 'Accept' asks for a picture; ask for JSON")
    return Request(request.image, request.options, encodings[preferred])


def _media_types(accept: str) -> list[tuple[str, float]]:
    entries = []
    for entry in accept.lower().split(","):
        media_type, *parameters = (part.strip() for part in entry.split(";"))
        quality = next((part[2:] for part in parameters if part.startswith("q=")), "1")
        if media_type:
            entries.append((media_type, float(quality) if re.fullmatch(r"[01](\.\d{0,3})?", quality) else 0.0))
    return entries


# ----------------------------------------------------------------------------- options


def _options(given: Mapping[str, Any]) -> Options:
    for name in given:
        if name not in READERS:
            raise InvalidOption(
                f"{shown(name)} is not an option{near_names(name, READERS)} (options are {', '.join(READERS)})"
            )
    if "targets" in given and "explain" in given:
        raise InvalidOption("'targets' and 'explain' exclude each other; give the classes or their number")
    return Options(**{name: READERS[name](name, _text(name, value)) for name, value in given.items()})


def _text(name: str, value: Any) -> Any:
    """Returns bytes, as forms and gRPC have them, as text; anything else as it is."""
    if not isinstance(value, bytes | bytearray):
        return value
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidOption(f"{name} must be UTF-8 text: {error.reason} at byte {error.start}") from error


def _count(name: str, value: Any, minimum: int) -> int:
    number = value
    if isinstance(value, str) and re.fullmatch(r"\s*\d{1,9}\s*", value, re.ASCII):
        number = int(value)
    if not isinstance(number, int) or isinstance(number, bool) or number < minimum:
        raise InvalidOption(f"{name} must be a whole number from {minimum} on, not {shown(value)}")
    return number


def _topk(name: str, value: Any) -> int:
    return _count(name, value, minimum=1)


def _explain(name: str, value: Any) -> int:
    return _count(name, value, minimum=0)


def _targets(name: str, value: Any) -> tuple[int | str, ...]:
    """Reads a list, one class, or text in which commas part them and double quotes keep them together."""
    if isinstance(value, str):
        try:
            value = next(csv.reader([value], skipinitialspace=True), []) if "\n" not in value else [value]
        except csv.Error as error:
            raise InvalidOption(f"{name} must be indices or labels, parted by commas: {error}") from error
    entries = value if isinstance(value, list) else [value]
    targets = tuple(_target(name, entry) for entry in entries)
    if not targets:
        raise InvalidOption(f"{name} must name at least one class; leave it out for the predicted one")
    return targets


def _target(name: str, entry: Any) -> int | str:
    if isinstance(entry, int) and not isinstance(entry, bool):
        return entry
    if not isinstance(entry, str) or not entry.strip():
        raise InvalidOption(f"{name} must be indices or labels, such as 281 or 'tabby', not {shown(entry)}")
    label = entry.strip()
    return int(label) if re.fullmatch(r"\d{1,9}", label, re.ASCII) else label


def _name(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise InvalidOption(f"{name} must be a name, not {shown(value)}")
    return value.strip()


def _layers(name: str, value: Any) -> tuple[str, ...]:
    entries = value.split(",") if isinstance(value, str) else value
    if not isinstance(entries, list) or not entries:
        raise InvalidOption(f"{name} must be a layer's name or a list of them, not {shown(value)}")
    return tuple(_name(name, entry) for entry in entries)


def _flag(name: str, value: Any) -> bool:
    flags = {"true": True, "1": True, "false": False, "0": False}
    text = str(value).strip().lower()
    if not isinstance(value, str | bool | int) or text not in flags:
        raise InvalidOption(f"{name} must be true or false, not {shown(value)}")
    return flags[text]


def _alpha(name: str, value: Any) -> float:
    try:
        number = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if not 0 <= number <= 1:
        raise InvalidOption(f"{name} must be a number from 0 to 1, not {shown(value)}")
    return number


def _choice(*choices: str) -> Callable[[str, Any], str]:
    def read(name: str, value: Any) -> str:
        if value not in choices:
            raise InvalidOption(f"{name} must be one of {', '.join(choices)}, not {shown(value)}")
        return cast(str, value)

    return read


READERS: dict[str, Callable[[str, Any], Any]] = {
    "topk": _topk,
    "targets": _targets,
    "explain": _explain,
    "method": _name,
    "layer": _layers,
    "smooth": _flag,
    "heatmap": _choice("grid", "none"),
    "overlay": _choice("png", "jpeg", "none"),
    "colormap": _name,
    "alpha": _alpha,
}


# ----------------------------------------------------------------------------- reply


@dataclass(frozen=True)
class Prediction:
    """A class and its probability in [0, 1]."""

    index: int
    label: str
    probability: float


@dataclass(frozen=True)
class Explanation:
    """What spoke for one class."""

    prediction: Prediction
    heatmap: NDArray[np.float32]
    """(h, w) in [0, 1], maximum 1; all 0 where nothing speaks for the class."""
    peak: tuple[int, int] | None
    """x and y of the map's maximum, in pixels of the picture as sent; None for a map that is all 0."""
    overlay: bytes | None
    """The encoded overlay, where one was asked for."""


@dataclass(frozen=True)
class Result:
    """The answer to one request."""

    request: Request
    predictions: list[Prediction]
    explanations: list[Explanation]
    method: str
    layers: tuple[str, ...]
    width: int
    height: int
    region: Region


@dataclass(frozen=True)
class Reply:
    """What goes back to the client."""

    status: int
    phrase: str
    content_type: str
    body: str | bytes


def render(result: Result | RequestError) -> Reply:
    """Returns the reply in the form that the request asks for; a refusal is always JSON."""
    if isinstance(result, RequestError):
        document = {"error": {"code": result.code, "message": str(result)}}
        return Reply(result.status, result.phrase, "application/json", _json(document))
    request = result.request
    if request.accept is not None:
        return Reply(200, "OK", f"image/{request.accept}", result.explanations[0].overlay or b"")
    return Reply(200, "OK", "application/json", _json(_document(result)))


def _document(result: Result) -> dict[str, Any]:
    return {
        "predictions": [_prediction(prediction) for prediction in result.predictions],
        "explanations": [_explanation(explanation, result.request.options) for explanation in result.explanations],
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
        "probability": float(f"{prediction.probability:.6g}"),
    }


def _explanation(explanation: Explanation, options: Options) -> dict[str, Any]:
    document = {**_prediction(explanation.prediction), "evidence": explanation.peak is not None}
    if options.heatmap == "grid":
        document["heatmap"] = explanation.heatmap.astype(np.float64).round(6).tolist()
    document["peak"] = explanation.peak
    if explanation.overlay is not None:
        encoded = base64.b64encode(explanation.overlay).decode("ascii")
        document["overlay"] = f"data:image/{options.overlay};base64,{encoded}"
    return document


def _json(document: Mapping[str, Any]) -> str:
    return json.dumps(document, separators=(",", ":"), allow_nan=False)
