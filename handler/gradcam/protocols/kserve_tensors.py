"""Output tensors of KServe's V2 protocol.

Tensors are dense: a failed image has blank values, in the shape of the images that succeeded. So has an image with
fewer explanations than another, as a threshold may select.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from typing import Any

from gradcam.errors import RequestError
from gradcam.message import Explanation, Prediction, Request, Result
from gradcam.protocols import single_image
from gradcam.protocols.kserve_common import Results

Tensor = dict[str, Any]
# Builds a tensor of all images, in the shape of the first successful result; None if that has no such values.
Builder = Callable[[Results, Result], Tensor | None]


def outputs(results: Results, first: Result | None, names: Collection[str]) -> list[Tensor]:
    """Return the tensors of a reply.

    Args:
        results: of all images of the request.
        first: the first successful result; None if all images failed.
        names: of the requested outputs; empty requests all.
    """
    if first is None:
        tensors = {"error": _error(results)}
    else:
        tensors = {name: build(results, first) for name, build in OUTPUTS.items() if name in (names or OUTPUTS)}
    return [{"name": name, **tensor} for name, tensor in tensors.items() if tensor is not None]


def _tensor(datatype: str, shape: Sequence[int], data: list[Any]) -> Tensor:
    return {"datatype": datatype, "shape": list(shape), "data": data}


def _of_predictions(datatype: str, value: Callable[[Prediction], Any], blank: Any) -> Builder:
    """Return the builder of a tensor [n, k] with a value for each image's k predictions."""

    def build(results: Results, first: Result) -> Tensor:
        count = len(first.predictions)
        rows = [
            [blank] * count if isinstance(result, RequestError) else [value(entry) for entry in result.predictions]
            for result in results
        ]
        return _tensor(datatype, (len(results), count), [entry for row in rows for entry in row])

    return build


def _of_explanations(
    datatype: str, values: Callable[[Explanation, Request], list[Any]], blank: Any, *sizes: int
) -> Builder:
    """Return the builder of a tensor [n, t, …] with values for each image's at most t explanations."""

    def build(results: Results, first: Result) -> Tensor | None:
        count = max(len(_explanations(result)) for result in results)
        if not count:
            return None
        data: list[Any] = []
        for result in results:
            entries = _explanations(result)
            data += [value for entry in entries for value in values(entry, first.request)]
            data += [blank] * math.prod(sizes) * (count - len(entries))
        return _tensor(datatype, (len(results), count, *sizes), data)

    return build


def _explanations(result: Result | RequestError) -> list[Explanation]:
    return [] if isinstance(result, RequestError) else result.explanations


def _heatmap(results: Results, first: Result) -> Tensor | None:
    shapes = [entry.heatmap.shape for result in results for entry in _explanations(result)]
    if first.request.options.heatmap == "none" or not shapes:
        return None
    height, width = shapes[0]

    def cells(explanation: Explanation, _: Request) -> list[float]:
        return [value for row in single_image.heatmap(explanation) for value in row]

    return _of_explanations("FP32", cells, 0.0, height, width)(results, first)


def _versus(results: Results, first: Result) -> Tensor | None:
    if first.request.options.versus is None:
        return None

    def index(explanation: Explanation, _: Request) -> list[int]:
        return [-1 if explanation.versus is None else explanation.versus.index]

    return _of_explanations("INT64", index, -1)(results, first)


def _boxes(results: Results, first: Result) -> Tensor | None:
    """Return JSON text for each explanation, because their numbers of boxes differ."""
    if first.request.options.boxes is None:
        return None

    def document(explanation: Explanation, _: Request) -> list[str]:
        return [single_image.to_json(single_image.boxes(explanation.boxes or []))]

    return _of_explanations("BYTES", document, "")(results, first)


def _overlay(results: Results, first: Result) -> Tensor | None:
    if first.request.encoding is None:
        return None

    def data_url(explanation: Explanation, request: Request) -> list[str]:
        return [single_image.data_url(explanation.overlay or b"", request)]

    return _of_explanations("BYTES", data_url, "")(results, first)


def _error(results: Results, _: Result | None = None) -> Tensor | None:
    """Return the JSON of each failed image's error, empty for the others; None if no image failed."""
    if not any(isinstance(result, RequestError) for result in results):
        return None
    documents = [
        single_image.to_json(single_image.document(result)) if isinstance(result, RequestError) else ""
        for result in results
    ]
    return _tensor("BYTES", (len(results),), documents)


def _region(results: Results, _: Result) -> Tensor:
    blank = [0, 0, 0, 0]
    regions = [
        blank
        if isinstance(result, RequestError)
        else [result.region.left, result.region.top, result.region.right, result.region.bottom]
        for result in results
    ]
    return _tensor("INT64", (len(results), 4), [value for region in regions for value in region])


OUTPUTS: dict[str, Builder] = {
    "index": _of_predictions("INT64", lambda entry: entry.index, -1),
    "label": _of_predictions("BYTES", lambda entry: entry.label, ""),
    "probability": _of_predictions("FP32", lambda entry: single_image.rounded(entry.probability), 0.0),
    "target": _of_explanations("INT64", lambda entry, _: [entry.prediction.index], -1),
    "evidence": _of_explanations("BOOL", lambda entry, _: [entry.evidence], False),
    "peak": _of_explanations("INT64", lambda entry, _: list(entry.peak or (-1, -1)), -1, 2),
    "strength": _of_explanations("FP32", lambda entry, _: [single_image.rounded(entry.strength)], 0.0),
    "versus": _versus,
    "boxes": _boxes,
    "heatmap": _heatmap,
    "overlay": _overlay,
    "region": _region,
    "error": _error,
}
