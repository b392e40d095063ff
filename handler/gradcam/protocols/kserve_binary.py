"""Binary tensors of KServe's V2 protocol: JSON, followed by the bytes of the tensors in its order.

The header `Inference-Header-Content-Length` has the length of the JSON, and each tensor's parameter
`binary_data_size` the length of its bytes. Numbers are little-endian. Each BYTES element follows its length, a uint32:
https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/extensions/binary_data.md
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gradcam.errors import InvalidRequest, truncated_repr

LENGTH_HEADER = "Inference-Header-Content-Length"
SIZE_PARAMETER = "binary_data_size"
PREFIX = struct.Struct("<I")
NUMBERS = {"INT64": "<i8", "FP32": "<f4", "BOOL": "?"}


def split(body: bytes | bytearray, length: str) -> tuple[Mapping[str, Any], memoryview]:
    """Split a body into its JSON object and the bytes behind it, which are not copied.

    Args:
        body: JSON and tensors.
        length: the value of `Inference-Header-Content-Length`.

    Raises:
        InvalidRequest: the length is not a number within the body, or the JSON is not an object.
    """
    text = length.strip()
    digits = text.isascii() and text.isdigit() and len(text) <= len(str(len(body)))
    if not digits or int(text) > len(body):
        raise InvalidRequest(
            f"{LENGTH_HEADER} must be the length of the JSON, at most the body's {len(body):,} bytes; "
            f"got {truncated_repr(length)}"
        )
    view = memoryview(body)
    try:
        document = json.loads(bytes(view[: int(text)]))
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"The first {int(text):,} bytes, {LENGTH_HEADER}, are not valid JSON") from error
    if not isinstance(document, Mapping) or "inputs" not in document:
        raise InvalidRequest(
            f"JSON before binary tensors must be an object with 'inputs', got {truncated_repr(document)}"
        )
    return document, view[int(text) :]


def tensor_bytes(parameters: Mapping[str, Any], tail: memoryview | None) -> memoryview | None:
    """Return the bytes of the only input tensor; None if its data are in the JSON.

    Args:
        parameters: of the tensor.
        tail: the bytes behind the JSON; None if the request has no `Inference-Header-Content-Length`.

    Raises:
        InvalidRequest: the tensor's `binary_data_size` is not the number of bytes behind the JSON.
    """
    if SIZE_PARAMETER not in parameters:
        if tail:
            raise InvalidRequest(f"{len(tail):,} bytes follow the JSON, but no tensor has {SIZE_PARAMETER!r}")
        return None
    size = parameters[SIZE_PARAMETER]
    if tail is None:
        raise InvalidRequest(f"A tensor with {SIZE_PARAMETER!r} needs the header {LENGTH_HEADER}")
    if not isinstance(size, int) or isinstance(size, bool) or size != len(tail):
        raise InvalidRequest(
            f"{SIZE_PARAMETER} must be {len(tail)}, the number of bytes behind the JSON, got {truncated_repr(size)}"
        )
    return tail


def elements(data: memoryview, count: int) -> list[bytes]:
    """Return the elements of a BYTES tensor.

    Raises:
        InvalidRequest: the bytes are not exactly `count` elements.
    """
    found: list[bytes] = []
    position = 0
    while position < len(data) and len(found) < count:
        start = position + PREFIX.size
        if start > len(data):
            raise InvalidRequest(f"BYTES element {len(found)} has no length of {PREFIX.size} bytes before it")
        (size,) = PREFIX.unpack(data[position:start])
        if size > len(data) - start:
            raise InvalidRequest(
                f"BYTES element {len(found)} has {size:,} bytes according to the length before it, "
                f"but only {len(data) - start:,} bytes follow"
            )
        found.append(bytes(data[start : start + size]))
        position = start + size
    if len(found) < count or position < len(data):
        received = f"only {len(found)}" if len(found) < count else "more"
        raise InvalidRequest(f"BYTES tensor must have {count} elements according to its shape, got {received}")
    return found


def encode(tensor: Mapping[str, Any]) -> bytes:
    """Return the data of an output tensor in its JSON form as bytes."""
    data: Sequence[Any] = tensor["data"]
    if tensor["datatype"] == "BYTES":
        texts = [text.encode() for text in data]
        return b"".join(part for text in texts for part in (PREFIX.pack(len(text)), text))
    return np.array(data, NUMBERS[tensor["datatype"]]).tobytes()
