"""Several pictures a message: KServe's V1 protocol, and V2, the Open Inference Protocol, with tensors.

https://kserve.github.io/website/docs/concepts/architecture/data-plane says what either looks like. A picture that
cannot be answered fails alone, in its place; where all of them fail, so does the message.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from gradcam.errors import InvalidRequest, RequestError, TooMany, suggestions, truncated_repr
from gradcam.message import Explanation, Reply, Request, RequestGroup, Result
from gradcam.options import merged, whole
from gradcam.protocols import single_image as plain

Results = Sequence[Result | RequestError]
Tensor = dict[str, Any]

V1_MEMBERS = ("instances", "parameters")
V2_MEMBERS = ("inputs", "parameters", "outputs", "id")
INPUT = "image"
MOST_DIMENSIONS = 4
INPUT_FORM = '{"name": "image", "shape": [n], "datatype": "BYTES", "data": ["<base64>", …]}'


# ----------------------------------------------------------------------------- V1


def read_v1(body: Mapping[str, Any], defaults: Mapping[str, Any], max_instances: int, *, explain: bool) -> RequestGroup:
    """Reads `{"instances": [{"image": …, …options}, …], "parameters": {…options for all}}`.

    Args:
        body: the parsed JSON.
        defaults: options that came as headers.
        max_instances: more are refused.
        explain: the message came to `:explain`, whose answer names the explanations once more.

    Raises:
        InvalidRequest: it is not of this form.
        TooMany: there are more instances.
    """
    _check_members(body, V1_MEMBERS)
    instances = body["instances"]
    if not isinstance(instances, list) or not instances:
        raise InvalidRequest(f'instances must be a list of {{"image": "<base64>", …}}, not {truncated_repr(instances)}')
    _check_count(len(instances), max_instances)
    defaults = merged(defaults, _parameters(body))
    return RequestGroup(
        [_instance(instance, defaults, len(instances)) for instance in instances], partial(_v1, explain)
    )


def _instance(instance: Any, defaults: Mapping[str, Any], images_in_request: int) -> Request | RequestError:
    fields = instance if isinstance(instance, Mapping) else {INPUT: instance}
    try:
        return plain.request(fields, defaults, images_in_request=images_in_request)
    except RequestError as error:
        return error


def _v1(explain: bool, results: Results) -> Reply:
    said: dict[str, Any] = {"predictions": [plain.document(result) for result in results]}
    if explain:
        said["explanations"] = [answer.get("explanations", []) for answer in said["predictions"]]
    errors = _errors(results)
    if len(errors) < len(results):
        return Reply(200, "OK", plain.JSON, plain.to_json(said), errors)
    first = plain.refusal(errors[0])
    return replace(first, body=plain.to_json({**plain.document(errors[0]), **said}), errors=errors)


# ----------------------------------------------------------------------------- V2


@dataclass(frozen=True)
class Model:
    """What the model is called in the answers."""

    name: str
    version: str


def read_v2(body: Mapping[str, Any], defaults: Mapping[str, Any], max_instances: int, model: Model) -> RequestGroup:
    """Reads `{"inputs": [the tensor `image`], "parameters": {…options}, "outputs": [{"name": …}, …], "id": …}`.

    Raises:
        InvalidRequest: it is not of this form.
        InvalidOption: a parameter is not an option, or cannot have its value.
        TooMany: there are more pictures.
    """
    _check_members(body, V2_MEMBERS)
    reply = partial(_v2, model, _id(body), _wanted(body))
    return RequestGroup(_pictures(body, merged(defaults, _parameters(body)), max_instances), reply)


def read_model_infer(body: Mapping[str, Any], max_instances: int, model: Model) -> RequestGroup:
    """Reads what TorchServe makes of a call of gRPC's `ModelInfer`: V2's JSON, without parameters and outputs.

    Its reply is never anything but tensors: TorchServe translates them back, and ends the worker where it cannot.
    """
    identifier = body.get("id")
    reply = partial(_model_infer, model, identifier if isinstance(identifier, str) else "")
    try:
        return RequestGroup(_pictures(body, {}, max_instances), reply)
    except RequestError as error:
        return RequestGroup([error], reply)


def _pictures(body: Mapping[str, Any], defaults: Mapping[str, Any], max_instances: int) -> list[Request | RequestError]:
    tensor = _tensor(body["inputs"])
    pictures = list(_flat(tensor["data"]))
    _check_count(len(pictures), max_instances)
    _check_shape(tensor.get("shape"), len(pictures))
    defaults = merged(defaults, _parameters(tensor))
    return [_instance({INPUT: picture}, defaults, len(pictures)) for picture in pictures]


def _tensor(inputs: Any) -> Mapping[str, Any]:
    tensors = inputs if isinstance(inputs, list) else []
    if len(tensors) != 1 or not isinstance(tensors[0], Mapping):
        raise InvalidRequest(f"inputs must be a list of one tensor, {INPUT_FORM}, not {truncated_repr(inputs)}")
    tensor = tensors[0]
    if (tensor.get("name"), tensor.get("datatype")) != (INPUT, "BYTES") or not isinstance(tensor.get("data"), list):
        raise InvalidRequest(f"the input must be {INPUT_FORM}, not {truncated_repr(dict(tensor))}")
    return tensor


def _flat(data: list[Any]) -> Iterator[Any]:
    """Yields the elements of a tensor, which may come nested; without recursion, for JSON may nest deep."""
    waiting = [iter(data)]
    while waiting:
        for entry in waiting[-1]:
            if isinstance(entry, list):
                waiting.append(iter(entry))
                break
            yield entry
        else:
            waiting.pop()


def _check_shape(shape: Any, count: int) -> None:
    sizes = [whole(size) for size in shape] if isinstance(shape, list) else []
    fit = all(isinstance(size, int) and not isinstance(size, bool) and 0 < size <= count for size in sizes)
    if not 0 < len(sizes) <= MOST_DIMENSIONS or not fit or math.prod(sizes) != count:
        raise InvalidRequest(
            f"the input's shape must be [{count}], for there are {count} pictures, not {truncated_repr(shape)}"
        )


def _id(body: Mapping[str, Any]) -> str | None:
    identifier = body.get("id")
    if not isinstance(identifier, str | None):
        raise InvalidRequest(f"id must be text, not {truncated_repr(identifier)}")
    return identifier


def _wanted(body: Mapping[str, Any]) -> list[str]:
    """Returns the names of the outputs that are asked for; none stands for all."""
    outputs = body.get("outputs", [])
    if not isinstance(outputs, list):
        raise InvalidRequest(f'outputs must be a list of {{"name": …}}, not {truncated_repr(outputs)}')
    names: list[Any] = [output.get("name") if isinstance(output, Mapping) else None for output in outputs]
    for name in names:
        if not isinstance(name, str) or name not in OUTPUTS:
            near = suggestions(name, OUTPUTS) if isinstance(name, str) else ""
            raise InvalidRequest(f"{truncated_repr(name)} is not an output{near} (outputs are {', '.join(OUTPUTS)})")
    return names


def _v2(model: Model, identifier: str | None, wanted: list[str], results: Results) -> Reply:
    errors = _errors(results)
    if len(errors) == len(results):
        return replace(plain.refusal(errors[0]), errors=errors)
    return Reply(200, "OK", plain.JSON, plain.to_json(_tensors(model, identifier, wanted, results)), errors)


def _model_infer(model: Model, identifier: str, results: Results) -> Reply:
    said = _tensors(model, identifier, [], results)
    return Reply(200, "OK", plain.JSON, plain.to_json(said), _errors(results))


def _tensors(model: Model, identifier: str | None, wanted: list[str], results: Results) -> dict[str, Any]:
    answered = next((result for result in results if isinstance(result, Result)), None)
    made = (
        {"error": _error(results)}
        if answered is None
        else {name: make(results, answered) for name, make in OUTPUTS.items() if name in (wanted or OUTPUTS)}
    )
    return {
        "model_name": model.name,
        "model_version": model.version,
        **({} if identifier is None else {"id": identifier}),
        **({} if answered is None else {"parameters": {"method": answered.method, "layer": ",".join(answered.layers)}}),
        "outputs": [{"name": name, **tensor} for name, tensor in made.items() if tensor is not None],
    }


# What stands in the place of a picture that failed has the shape of the answered ones': a tensor has no holes.


def _stack(datatype: str, shape: Sequence[int], data: list[Any]) -> Tensor:
    return {"datatype": datatype, "shape": list(shape), "data": data}


def _of_predictions(datatype: str, read: Callable[[Any], Any], blank: Any) -> Callable[[Results, Result], Tensor]:
    """Returns what makes a tensor [n, k] of each picture's k predictions."""

    def make(results: Results, answered: Result) -> Tensor:
        count = len(answered.predictions)
        rows = [
            [blank] * count if isinstance(result, RequestError) else [read(entry) for entry in result.predictions]
            for result in results
        ]
        return _stack(datatype, (len(results), count), [entry for row in rows for entry in row])

    return make


def _of_explanations(
    datatype: str, read: Callable[[Explanation, Request], list[Any]], blank: Any, *sizes: int
) -> Callable[[Results, Result], Tensor | None]:
    """Returns what makes a tensor [n, t, …] of each picture's t explanations."""

    def make(results: Results, answered: Result) -> Tensor | None:
        count = len(answered.explanations)
        if not count:
            return None
        blanks = [blank] * len(read(answered.explanations[0], answered.request)) * count
        data: list[Any] = []
        for result in results:
            if isinstance(result, RequestError):
                data += blanks
            else:
                data += [value for entry in result.explanations for value in read(entry, result.request)]
        return _stack(datatype, (len(results), count, *sizes), data)

    return make


def _heatmap(results: Results, answered: Result) -> Tensor | None:
    if answered.request.options.heatmap == "none" or not answered.explanations:
        return None
    height, width = answered.explanations[0].heatmap.shape

    def cells(explanation: Explanation, _: Request) -> list[float]:
        return [value for row in plain.heatmap(explanation) for value in row]

    return _of_explanations("FP32", cells, 0.0, height, width)(results, answered)


def _overlay(results: Results, answered: Result) -> Tensor | None:
    if answered.request.encoding is None:
        return None
    make = _of_explanations("BYTES", lambda entry, asked: [plain.data_url(entry.overlay or b"", asked)], "")
    return make(results, answered)


def _error(results: Results, _: Result | None = None) -> Tensor | None:
    """Returns, where any picture failed, why: the JSON of the error, empty for those that did not."""
    if not any(isinstance(result, RequestError) for result in results):
        return None
    said = [plain.to_json(plain.document(result)) if isinstance(result, RequestError) else "" for result in results]
    return _stack("BYTES", (len(results),), said)


def _region(results: Results, _: Result) -> Tensor:
    blank = [0, 0, 0, 0]
    regions = [
        blank
        if isinstance(result, RequestError)
        else [result.region.left, result.region.top, result.region.right, result.region.bottom]
        for result in results
    ]
    return _stack("INT64", (len(results), 4), [value for region in regions for value in region])


OUTPUTS: dict[str, Callable[[Results, Result], Tensor | None]] = {
    "index": _of_predictions("INT64", lambda entry: entry.index, -1),
    "label": _of_predictions("BYTES", lambda entry: entry.label, ""),
    "probability": _of_predictions("FP32", lambda entry: plain.rounded(entry.probability), 0.0),
    "target": _of_explanations("INT64", lambda entry, _: [entry.prediction.index], -1),
    "evidence": _of_explanations("BOOL", lambda entry, _: [entry.evidence], False),
    "peak": _of_explanations("INT64", lambda entry, _: list(entry.peak or (-1, -1)), -1, 2),
    "heatmap": _heatmap,
    "overlay": _overlay,
    "region": _region,
    "error": _error,
}


# ----------------------------------------------------------------------------- both


def _check_members(body: Mapping[str, Any], members: Sequence[str]) -> None:
    for name in body:
        if name not in members:
            raise InvalidRequest(
                f"{truncated_repr(name)} does not belong beside '{members[0]}'{suggestions(name, members)} "
                f"(it may have {', '.join(members[1:])})"
            )


def _parameters(holder: Mapping[str, Any]) -> Mapping[str, Any]:
    parameters = holder.get("parameters", {})
    if not isinstance(parameters, Mapping):
        raise InvalidRequest(f"parameters must be an object of options, not {truncated_repr(parameters)}")
    return parameters


def _check_count(count: int, most: int) -> None:
    if not count:
        raise InvalidRequest("there is no picture in the request; the tensor 'image' is empty")
    if count > most:
        raise TooMany(
            f"the request has {count} pictures, the limit is {most}; send more requests", "too_many_instances"
        )


def _errors(results: Results) -> tuple[RequestError, ...]:
    return tuple(result for result in results if isinstance(result, RequestError))
