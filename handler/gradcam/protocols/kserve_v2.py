"""KServe's V2 protocol (Open Inference Protocol): several images as one tensor, over HTTP or gRPC."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from gradcam.errors import InvalidRequest, RequestError, suggestions, truncated_repr
from gradcam.message import Reply, Request, RequestGroup, Result, ServedModel
from gradcam.options import as_integer
from gradcam.protocols import kserve_tensors, single_image
from gradcam.protocols.kserve_common import (
    IMAGE,
    Results,
    check_count,
    check_members,
    errors,
    parameters,
    read_image,
)
from gradcam.protocols.kserve_tensors import OUTPUTS

MEMBERS = ("inputs", "parameters", "outputs", "id")
MAX_DIMENSIONS = 4
INPUT_FORM = '{"name": "image", "shape": [n], "datatype": "BYTES", "data": ["<base64>", …]}'


# ----------------------------------------------------------------------------- request


def read(
    body: Mapping[str, Any], header_options: Mapping[str, Any], model: ServedModel, max_instances: int
) -> RequestGroup:
    """Parse `{"inputs": [the tensor `image`], "parameters": {…options}, "outputs": [{"name": …}, …], "id": …}`.

    Raises:
        InvalidRequest: the body has another form.
        TooMany: there are more images.
    """
    check_members(body, MEMBERS)
    reply = partial(_reply, model, _id(body), _output_names(body))
    return RequestGroup(_requests(body, [header_options, parameters(body)], max_instances), reply)


def read_model_infer(body: Mapping[str, Any], model: ServedModel, max_instances: int) -> RequestGroup:
    """Parse a call of gRPC's `ModelInfer`, translated to V2's JSON without parameters and outputs.

    Its reply consists of tensors even if the call is invalid: TorchServe translates the reply back, and kills the
    worker if it cannot.
    """
    identifier = body.get("id")
    reply = partial(_model_infer_reply, model, identifier if isinstance(identifier, str) else "")
    try:
        return RequestGroup(_requests(body, [], max_instances), reply)
    except RequestError as error:
        return RequestGroup([error], reply)


def _requests(
    body: Mapping[str, Any], general_options: Sequence[Mapping[str, Any]], max_instances: int
) -> list[Request | RequestError]:
    tensor = _tensor(body["inputs"])
    images = list(_elements(tensor["data"]))
    check_count(len(images), max_instances)
    _check_shape(tensor.get("shape"), len(images))
    options = [*general_options, parameters(tensor)]
    return [read_image({IMAGE: image}, options, len(images)) for image in images]


def _tensor(inputs: Any) -> Mapping[str, Any]:
    tensors = inputs if isinstance(inputs, list) else []
    if len(tensors) != 1 or not isinstance(tensors[0], Mapping):
        raise InvalidRequest(f"inputs must be a list of one tensor {INPUT_FORM}, got {truncated_repr(inputs)}")
    tensor = tensors[0]
    if (tensor.get("name"), tensor.get("datatype")) != (IMAGE, "BYTES") or not isinstance(tensor.get("data"), list):
        raise InvalidRequest(f"Input tensor must be {INPUT_FORM}, got {truncated_repr(dict(tensor))}")
    return tensor


def _elements(data: list[Any]) -> Iterator[Any]:
    """Yield the elements of a tensor, which may be nested; without recursion, since JSON may be nested deeply."""
    stack = [iter(data)]
    while stack:
        for entry in stack[-1]:
            if isinstance(entry, list):
                stack.append(iter(entry))
                break
            yield entry
        else:
            stack.pop()


def _check_shape(shape: Any, count: int) -> None:
    sizes = [as_integer(size) for size in shape] if isinstance(shape, list) else []
    valid = all(isinstance(size, int) and not isinstance(size, bool) and 0 < size <= count for size in sizes)
    if not 0 < len(sizes) <= MAX_DIMENSIONS or not valid or math.prod(sizes) != count:
        raise InvalidRequest(
            f"Input tensor's shape must be [{count}], the number of images, got {truncated_repr(shape)}"
        )


def _id(body: Mapping[str, Any]) -> str | None:
    identifier = body.get("id")
    if not isinstance(identifier, str | None):
        raise InvalidRequest(f"id must be text, got {truncated_repr(identifier)}")
    return identifier


def _output_names(body: Mapping[str, Any]) -> list[str]:
    """Return the names of the requested outputs; an empty list requests all."""
    outputs = body.get("outputs", [])
    if not isinstance(outputs, list):
        raise InvalidRequest(f'outputs must be a list of {{"name": …}}, got {truncated_repr(outputs)}')
    names: list[Any] = [output.get("name") if isinstance(output, Mapping) else None for output in outputs]
    for name in names:
        if not isinstance(name, str) or name not in OUTPUTS:
            near = suggestions(name, OUTPUTS) if isinstance(name, str) else ""
            raise InvalidRequest(
                f"Unknown output {truncated_repr(name)}{near or ';'} "
                f"{'V' if near else 'v'}alid outputs: {', '.join(OUTPUTS)}"
            )
    return names


# ----------------------------------------------------------------------------- reply


def _reply(model: ServedModel, identifier: str | None, output_names: list[str], results: Results) -> Reply:
    failed = errors(results)
    if len(failed) == len(results):
        return replace(single_image.rejection(failed[0]), errors=failed)
    return _tensor_reply(model, identifier, output_names, results)


def _model_infer_reply(model: ServedModel, identifier: str, results: Results) -> Reply:
    return _tensor_reply(model, identifier, [], results)


def _tensor_reply(model: ServedModel, identifier: str | None, output_names: list[str], results: Results) -> Reply:
    first = next((result for result in results if isinstance(result, Result)), None)
    document = {
        "model_name": model.name,
        "model_version": model.version,
        **({} if identifier is None else {"id": identifier}),
        **({} if first is None else {"parameters": _parameters(first)}),
        "outputs": kserve_tensors.outputs(results, first, output_names),
    }
    return Reply(200, "OK", single_image.JSON, single_image.to_json(document), errors(results))


def _parameters(result: Result) -> dict[str, str]:
    """Return what the images of a request share, apart from name and version of the model."""
    return {"method": result.method, "layer": ",".join(result.layers), "weights": result.model.weights}
