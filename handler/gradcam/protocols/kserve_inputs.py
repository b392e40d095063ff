"""Input tensor of KServe's V2 protocol: encoded images as BYTES [n], or raw pixels as UINT8 [n, H, W, 3]."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from gradcam.errors import InvalidRequest, truncated_repr
from gradcam.images.pixels import RawPixels
from gradcam.options import as_integer
from gradcam.protocols import kserve_binary
from gradcam.protocols.kserve_common import check_count, parameters

MAX_DIMENSIONS = 4
CHANNELS = 3
INPUT_FORM = '{"name": "image", "shape": [n], "datatype": "BYTES", "data": ["<base64>", …]}'
UNKNOWN_SIZE = -1
# JSON has integers of thousands of digits, whose product Python refuses to print.
MAX_SIZE = 2**63 - 1
# Parameters of a tensor that are no options.
TENSOR_PARAMETERS = (kserve_binary.SIZE_PARAMETER,)


def only_tensor(inputs: Any) -> Mapping[str, Any]:
    """Return the only tensor of `inputs`, whatever its name.

    Raises:
        InvalidRequest: `inputs` is not a list of one tensor.
    """
    tensors = inputs if isinstance(inputs, list) else []
    if len(tensors) != 1 or not isinstance(tensors[0], Mapping):
        raise InvalidRequest(f"inputs must be a list of one tensor {INPUT_FORM}, got {truncated_repr(inputs)}")
    tensor: Mapping[str, Any] = tensors[0]
    if not isinstance(tensor.get("name"), str):
        raise InvalidRequest(f"Input tensor's name must be text, got {truncated_repr(tensor.get('name'))}")
    return tensor


def images(tensor: Mapping[str, Any], tail: memoryview | None, max_instances: int) -> list[Any]:
    """Return the images of a tensor: base64, file bytes, or raw pixels.

    Args:
        tensor: the input tensor.
        tail: the bytes behind the JSON; None without binary tensors.
        max_instances: maximum number of images.

    Raises:
        InvalidRequest: datatype, shape and data do not match, or there is no image.
        TooMany: there are more images.
    """
    readers: dict[str, Callable[[Mapping[str, Any], memoryview | None, int], list[Any]]] = {
        "BYTES": _files,
        "UINT8": _pixels,
    }
    datatype = tensor.get("datatype")
    if not isinstance(datatype, str) or datatype not in readers:
        raise InvalidRequest(
            f"Input tensor's datatype must be BYTES (encoded images) or UINT8 (pixels [n, H, W, {CHANNELS}]), "
            f"got {truncated_repr(datatype)}"
        )
    binary = kserve_binary.tensor_bytes(parameters(tensor), tail)
    data = tensor.get("data")
    if binary is None and not isinstance(data, list):
        raise InvalidRequest(
            f"Input tensor's data must be binary, or a list as in {INPUT_FORM}; got {truncated_repr(data)}"
        )
    return readers[datatype](tensor, binary, max_instances)


def _files(tensor: Mapping[str, Any], binary: memoryview | None, max_instances: int) -> list[Any]:
    shape = tensor.get("shape")
    sizes = _sizes(shape)
    if binary is None:
        files = list(_elements(tensor["data"]))
        check_count(len(files), max_instances)
        if not _has_elements(sizes, len(files)):
            raise InvalidRequest(
                f"Input tensor's shape must be [{len(files)}], the number of images, got {truncated_repr(shape)}"
            )
        return files
    # Only the shape says how many elements to expect in the bytes.
    if not sizes or min(sizes) < 1:
        raise InvalidRequest(f"Shape of a binary BYTES tensor must be [n], n images, got {truncated_repr(shape)}")
    check_count(math.prod(sizes), max_instances)
    return [*kserve_binary.elements(binary, math.prod(sizes))]


def _pixels(tensor: Mapping[str, Any], binary: memoryview | None, max_instances: int) -> list[Any]:
    shape = tensor.get("shape")
    sizes = _sizes(shape)
    if len(sizes) != MAX_DIMENSIONS or min(sizes) < 1 or sizes[3] != CHANNELS:
        raise InvalidRequest(
            f"Shape of a UINT8 tensor must be [n, H, W, {CHANNELS}], n images of H × W RGB pixels, "
            f"got {truncated_repr(shape)}"
        )
    count, height, width, _ = sizes
    check_count(count, max_instances)
    size = height * width * CHANNELS
    values = memoryview(_pixel_bytes(tensor["data"])) if binary is None else binary
    if len(values) != count * size:
        raise InvalidRequest(
            f"UINT8 tensor of shape {truncated_repr(sizes)} must have {count * size:,} values, got {len(values):,}"
        )
    return [RawPixels(width, height, bytes(values[start : start + size])) for start in range(0, count * size, size)]


def _pixel_bytes(data: list[Any]) -> bytes:
    try:
        return bytes(_elements(data))
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidRequest("Values of a UINT8 tensor must be integers from 0 to 255") from error


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


def _sizes(shape: Any) -> list[int]:
    """Return the sizes of a shape of at most four dimensions; an empty list if it is invalid."""
    sizes = [as_integer(size) for size in shape] if isinstance(shape, list) and len(shape) <= MAX_DIMENSIONS else []
    valid = all(isinstance(size, int) and not isinstance(size, bool) and size <= MAX_SIZE for size in sizes)
    return sizes if valid else []


def _has_elements(sizes: list[int], count: int) -> bool:
    """Tell whether a shape may have `count` elements; one of its sizes may be unknown."""
    known = [size for size in sizes if size != UNKNOWN_SIZE]
    if not sizes or min(known, default=1) < 1:
        return False
    if len(known) == len(sizes):
        return math.prod(known) == count
    return len(known) == len(sizes) - 1 and count % math.prod(known) == 0
