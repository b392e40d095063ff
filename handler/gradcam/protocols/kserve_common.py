"""Parsing and checks that KServe's protocols V1 and V2 share.

https://kserve.github.io/website/docs/concepts/architecture/data-plane describes both. An image that fails does not
affect the other images of its request; if all of them fail, so does the request.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gradcam.errors import InvalidRequest, RequestError, TooMany, suggestions, truncated_repr
from gradcam.message import Request, Result
from gradcam.protocols import single_image

Results = Sequence[Result | RequestError]
IMAGE = "image"
B64 = "b64"


def read_image(
    image: Any, general_options: Sequence[Mapping[str, Any]], images_in_request: int
) -> Request | RequestError:
    """Parse one image, an object with options or the image alone; return the error if it is invalid.

    The image alone may be TensorFlow Serving's `{"b64": "<base64>"}`.
    """
    fields = image if isinstance(image, Mapping) else {IMAGE: image}
    if B64 in fields and not any(name in fields for name in single_image.IMAGE_FIELDS):
        fields = {IMAGE: {B64: fields[B64]}, **{name: value for name, value in fields.items() if name != B64}}
    try:
        return single_image.request(fields, general_options, images_in_request=images_in_request)
    except RequestError as error:
        return error


def parameters(holder: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the options in `parameters`.

    Raises:
        InvalidRequest: `parameters` is not an object.
    """
    options = holder.get("parameters", {})
    if not isinstance(options, Mapping):
        raise InvalidRequest(f"parameters must be an object of options, got {truncated_repr(options)}")
    return options


def check_members(body: Mapping[str, Any], members: Sequence[str]) -> None:
    """Check that a body has no members but these; the first one identifies the protocol.

    Raises:
        InvalidRequest: the body has another member.
    """
    for name in body:
        if name not in members:
            near = suggestions(name, members)
            raise InvalidRequest(
                f"Unknown member {truncated_repr(name)} beside '{members[0]}'{near or ';'} "
                f"{'V' if near else 'v'}alid members: {', '.join(members[1:])}"
            )


def check_count(count: int, max_instances: int) -> None:
    """Check the number of images in a request.

    Raises:
        InvalidRequest: there is no image.
        TooMany: there are more than `max_instances`.
    """
    if not count:
        raise InvalidRequest("Request has no image; the tensor 'image' is empty")
    if count > max_instances:
        raise TooMany(
            f"Request must have at most {max_instances} images, got {count}; split it into several requests",
            "too_many_instances",
        )


def errors(results: Results) -> tuple[RequestError, ...]:
    """Return the errors of the images that failed."""
    return tuple(result for result in results if isinstance(result, RequestError))
