"""ModelInfer as V2's binary HTTP form: JSON, followed by the bytes of the tensors, and back.

`raw_input_contents` and `raw_output_contents` have the same bytes as binary tensors over HTTP.
"""

from __future__ import annotations

import json
import struct
from typing import Any

from kserve_grpc.messages import CHOICE, MESSAGES

LENGTH_HEADER = "Inference-Header-Content-Length"
SIZE_PARAMETER = "binary_data_size"
PREFIX = struct.Struct("<I")


class InvalidCall(Exception):
    """A ModelInfer request that has no HTTP form; the text is for the client."""


def to_http(request: Any) -> tuple[bytes, dict[str, str]]:
    """Return the body and the headers that carry a `ModelInferRequest`.

    Raises:
        InvalidCall: the tensors and their contents do not match.
    """
    contents = _contents(request)
    document: dict[str, Any] = {
        "inputs": [
            {
                "name": tensor.name,
                "datatype": tensor.datatype,
                "shape": list(tensor.shape),
                "parameters": {**_parameters(tensor), SIZE_PARAMETER: len(data)},
            }
            for tensor, data in zip(request.inputs, contents, strict=True)
        ],
        "outputs": [
            {"name": output.name, "parameters": {**_parameters(output), "binary_data": True}}
            for output in request.outputs
        ],
        "parameters": {**_parameters(request), "binary_data_output": True},
    }
    if request.id:
        document["id"] = request.id
    head = json.dumps(document).encode()
    return b"".join([head, *contents]), {
        LENGTH_HEADER: str(len(head)),
        "Content-Type": "application/octet-stream",
    }


def from_http(body: bytes, json_length: int) -> Any:
    """Return the `ModelInferResponse` that a successful HTTP response carries.

    Args:
        body: JSON and binary tensors.
        json_length: the response's `Inference-Header-Content-Length`.
    """
    document = json.loads(body[:json_length])
    response = MESSAGES["ModelInferResponse"](
        model_name=document["model_name"], model_version=document["model_version"], id=document.get("id", "")
    )
    for name, value in document.get("parameters", {}).items():
        response.parameters[name].string_param = value
    position = json_length
    for output in document["outputs"]:
        response.outputs.add(name=output["name"], datatype=output["datatype"], shape=output["shape"])
        size = output["parameters"][SIZE_PARAMETER]
        response.raw_output_contents.append(body[position : position + size])
        position += size
    return response


def _contents(request: Any) -> list[bytes]:
    """Return the bytes of each input tensor."""
    raw = list(request.raw_input_contents)
    if not raw:
        return [_typed_contents(tensor) for tensor in request.inputs]
    if len(raw) != len(request.inputs):
        raise InvalidCall(
            f"raw_input_contents must have one entry for each of the {len(request.inputs)} inputs, got {len(raw)}"
        )
    return raw


def _typed_contents(tensor: Any) -> bytes:
    """Return the bytes of a tensor whose elements are in `contents`; the handler accepts two datatypes."""
    if tensor.datatype == "BYTES":
        elements = tensor.contents.bytes_contents
        return b"".join(part for element in elements for part in (PREFIX.pack(len(element)), element))
    if tensor.datatype == "UINT8":
        try:
            return bytes(tensor.contents.uint_contents)
        except ValueError as error:
            raise InvalidCall("Values of a UINT8 tensor must be from 0 to 255") from error
    return b""


def _parameters(holder: Any) -> dict[str, Any]:
    """Return the parameters of a message as JSON has them."""
    return {
        name: getattr(value, value.WhichOneof(CHOICE) or "string_param") for name, value in holder.parameters.items()
    }
