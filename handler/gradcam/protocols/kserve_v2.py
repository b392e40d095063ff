"""KServe's V2 protocol (Open Inference Protocol): several images as one tensor, over HTTP or gRPC.

`model_name`, `model_version` and Triton's request parameters are accepted and have no effect: TorchServe has chosen
the model by the path, and has neither priorities nor sequences.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from gradcam.errors import InvalidRequest, RequestError, suggestions, truncated_repr
from gradcam.message import Reply, Request, RequestGroup, Result, ServedModel
from gradcam.protocols import kserve_binary, kserve_inputs, kserve_tensors, single_image
from gradcam.protocols.kserve_common import IMAGE, Results, check_members, errors, parameters, read_image
from gradcam.protocols.kserve_tensors import OUTPUTS, Tensor

MEMBERS = ("inputs", "parameters", "outputs", "id", "model_name", "model_version")
# Parameters of a request that are no options.
BINARY_OUTPUT = "binary_data_output"
WITHOUT_EFFECT = ("priority", "timeout", "sequence_id", "sequence_start", "sequence_end")
UNSUPPORTED_OF_OUTPUTS = ("classification", "shared_memory_region")


@dataclass(frozen=True)
class RequestedOutputs:
    """The output tensors that a client requests."""

    named: Mapping[str, bool] = field(default_factory=dict)
    """The tensors by name, and whether each is binary; empty: all tensors."""
    binary_by_default: bool = False
    """Whether tensors are binary if none is named."""

    def is_binary(self, name: str) -> bool:
        """Tell whether a tensor is sent as bytes behind the JSON."""
        return self.named.get(name, self.binary_by_default)


# ----------------------------------------------------------------------------- request


def read(
    body: Mapping[str, Any],
    header_options: Mapping[str, Any],
    model: ServedModel,
    max_instances: int,
    tail: memoryview | None = None,
) -> RequestGroup:
    """Parse `{"inputs": [the tensor], "parameters": {…options}, "outputs": [{"name": …}, …], "id": …}`.

    Args:
        body: the parsed JSON.
        header_options: options from headers.
        model: name and version of the model, for the reply.
        max_instances: maximum images per request.
        tail: the bytes behind the JSON; None without binary tensors.

    Returns:
        The request group; if the body is invalid, the group consists of the error.
    """
    try:
        check_members(body, MEMBERS)
        reply = partial(_reply, model, _id(body), _requested_outputs(body))
        tensor = kserve_inputs.only_tensor(body["inputs"])
        return RequestGroup(_requests(tensor, tail, [header_options, _options(body)], max_instances), reply)
    except RequestError as error:
        return rejected(error)


def rejected(error: RequestError) -> RequestGroup:
    """Return the group of a request that is invalid as a whole."""
    return RequestGroup([error], lambda results: _rejection(errors(results)))


def read_model_infer(body: Mapping[str, Any], model: ServedModel, max_instances: int) -> RequestGroup:
    """Parse a call of gRPC's `ModelInfer`, translated to V2's JSON without parameters and outputs.

    Its reply consists of tensors even if the call is invalid: TorchServe translates the reply back, and kills the
    worker if it cannot.
    """
    identifier = body.get("id")
    reply = partial(_model_infer_reply, model, identifier if isinstance(identifier, str) else "")
    try:
        tensor = kserve_inputs.only_tensor(body["inputs"])
        _check_contents(tensor)
        return RequestGroup(_requests(tensor, None, [], max_instances), reply)
    except RequestError as error:
        return RequestGroup([error], reply)


def _requests(
    tensor: Mapping[str, Any],
    tail: memoryview | None,
    general_options: Sequence[Mapping[str, Any]],
    max_instances: int,
) -> list[Request | RequestError]:
    """Return a request for each image of a tensor, whose own parameters override the general options."""
    images = kserve_inputs.images(tensor, tail, max_instances)
    own_options = _without(parameters(tensor), kserve_inputs.TENSOR_PARAMETERS)
    return [read_image({IMAGE: image}, [*general_options, own_options], len(images)) for image in images]


def _options(body: Mapping[str, Any]) -> Mapping[str, Any]:
    return _without(parameters(body), (BINARY_OUTPUT, *WITHOUT_EFFECT))


def _without(members: Mapping[str, Any], names: Sequence[str]) -> Mapping[str, Any]:
    return {name: value for name, value in members.items() if name not in names}


def _check_contents(tensor: Mapping[str, Any]) -> None:
    """Check that a tensor of `ModelInfer` has images, and tell the client why it may have none."""
    if not tensor.get("data"):
        raise InvalidRequest(
            "Input tensor arrived empty: TorchServe drops raw_input_contents, which standard gRPC clients send; send "
            "the images in the tensor's contents.bytes_contents, use V2 over HTTP, or call the serving image's "
            "inference.GRPCInferenceService"
        )


def _id(body: Mapping[str, Any]) -> str | None:
    identifier = body.get("id")
    if not isinstance(identifier, str | None):
        raise InvalidRequest(f"id must be text, got {truncated_repr(identifier)}")
    return identifier


def _requested_outputs(body: Mapping[str, Any]) -> RequestedOutputs:
    outputs = body.get("outputs", [])
    if not isinstance(outputs, list):
        raise InvalidRequest(f'outputs must be a list of {{"name": …}}, got {truncated_repr(outputs)}')
    binary_by_default = _flag(BINARY_OUTPUT, parameters(body).get(BINARY_OUTPUT, False))
    named = {}
    for output in outputs:
        name = _output_name(output)
        options = parameters(output)
        for unsupported in UNSUPPORTED_OF_OUTPUTS:
            if unsupported in options:
                raise InvalidRequest(f"Parameter {unsupported!r} of an output is not supported; omit it")
        named[name] = _flag("binary_data", options.get("binary_data", binary_by_default))
    return RequestedOutputs(named, binary_by_default)


def _output_name(output: Any) -> str:
    name = output.get("name") if isinstance(output, Mapping) else None
    if isinstance(name, str) and name in OUTPUTS:
        return name
    near = suggestions(name, OUTPUTS) if isinstance(name, str) else ""
    raise InvalidRequest(
        f"Unknown output {truncated_repr(name)}{near or ';'} {'V' if near else 'v'}alid outputs: {', '.join(OUTPUTS)}"
    )


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise InvalidRequest(f"{name} must be true or false, got {truncated_repr(value)}")
    return value


# ----------------------------------------------------------------------------- reply


def _reply(model: ServedModel, identifier: str | None, requested: RequestedOutputs, results: Results) -> Reply:
    failed = errors(results)
    if len(failed) == len(results):
        return _rejection(failed)
    return _tensor_reply(model, identifier, requested, results)


def _rejection(failed: tuple[RequestError, ...]) -> Reply:
    """Render the error of a request as V2 has it: a text, here with the code beside it."""
    error = failed[0]
    body = single_image.to_json({"error": str(error), "code": error.code})
    return Reply(error.status, error.phrase, single_image.JSON, body, failed)


def _model_infer_reply(model: ServedModel, identifier: str, results: Results) -> Reply:
    return _tensor_reply(model, identifier, RequestedOutputs(), results)


def _tensor_reply(model: ServedModel, identifier: str | None, requested: RequestedOutputs, results: Results) -> Reply:
    first = next((result for result in results if isinstance(result, Result)), None)
    tensors = kserve_tensors.outputs(results, first, requested.named)
    tails = [kserve_binary.encode(tensor) if requested.is_binary(tensor["name"]) else None for tensor in tensors]
    document = {
        "model_name": model.name,
        "model_version": model.version,
        **({} if identifier is None else {"id": identifier}),
        **({} if first is None else {"parameters": _parameters(first)}),
        "outputs": [_described(tensor, tail) for tensor, tail in zip(tensors, tails, strict=True)],
    }
    text = single_image.to_json(document)
    if all(tail is None for tail in tails):
        return Reply(200, "OK", single_image.JSON, text, errors(results))
    body = b"".join([text.encode(), *(tail for tail in tails if tail is not None)])
    length = {kserve_binary.LENGTH_HEADER: str(len(text))}
    return Reply(200, "OK", "application/octet-stream", body, errors(results), length)


def _described(tensor: Tensor, tail: bytes | None) -> Tensor:
    """Return an output tensor as the JSON has it: with its data, or with the number of its bytes behind the JSON."""
    if tail is None:
        return tensor
    return {**_without(tensor, ("data",)), "parameters": {kserve_binary.SIZE_PARAMETER: len(tail)}}


def _parameters(result: Result) -> dict[str, str]:
    """Return what the images of a request share, apart from name and version of the model."""
    return {"method": result.method, "layer": ",".join(result.layers), "weights": result.model.weights}
