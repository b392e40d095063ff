"""Protocol dispatch: parse a payload into a request group, and render its results as a reply."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gradcam.errors import InvalidRequest, RequestError, TooLarge, truncated_repr
from gradcam.message import Reply, RequestGroup, Result, ServedModel
from gradcam.protocols import kserve_v1, kserve_v2, single_image

HEADER_PREFIX = "gradcam-"


@dataclass(frozen=True)
class Form:
    """The fields of a form or of a gRPC call: an image and its options."""

    fields: Mapping[str, Any]


@dataclass(frozen=True)
class Payload:
    """One HTTP message or gRPC call, as a server received it."""

    body: Any
    """Bytes: an image, or JSON according to the content type; text: an image in base64; a `Form`; otherwise JSON that
    the server has parsed."""
    content_type: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    """All request headers, by lower-case name; none over gRPC."""
    grpc: bool = False
    """Whether the payload came over gRPC."""
    explain: bool = False
    """Whether it was sent to KServe V1's `:explain`."""


def parse(payload: Payload, model: ServedModel, max_instances: int) -> RequestGroup:
    """Parse a payload of any protocol; options are in the body or in `gradcam-…` headers.

    Args:
        payload: what the server received.
        model: name and version of the model, for KServe's replies.
        max_instances: maximum images per request.

    Returns:
        The request group; if the payload is invalid, the group consists of the error.
    """
    options = {
        name.removeprefix(HEADER_PREFIX): value
        for name, value in payload.headers.items()
        if name.startswith(HEADER_PREFIX)
    }
    accept = payload.headers.get("accept", "")
    try:
        document = _json(payload)
        if document is None:
            fields = payload.body.fields if isinstance(payload.body, Form) else {"image": payload.body}
            return single_image.read(fields, options, accept)
        if payload.grpc and "inputs" in document:
            return kserve_v2.read_model_infer(document, model, max_instances)
        if "instances" in document:
            return kserve_v1.read(document, options, max_instances, explain=payload.explain)
        if "inputs" in document:
            return kserve_v2.read(document, options, model, max_instances)
        return single_image.read(document, options, accept)
    except RequestError as error:
        return RequestGroup([error], single_image.reply)


def render(group: RequestGroup, results: Sequence[Result | RequestError], max_bytes: int) -> Reply:
    """Render a group's results in the client's format, or reject a reply of more than `max_bytes`."""
    reply = group.reply(results)
    if len(reply.body) <= max_bytes:
        return reply
    error = TooLarge(
        f"Response must have at most {max_bytes:,} bytes, got {len(reply.body):,}; request fewer classes, "
        "a jpeg overlay or no overlay, or send fewer images per request",
        "answer_too_large",
    )
    return group.reply([error] * len(results))


def _json(payload: Payload) -> Mapping[str, Any] | None:
    """Return the JSON object in the body, or None if the body is an image or a form.

    Raises:
        InvalidRequest: the body is JSON but not an object, is not the JSON that its content type states, or has
            binary tensors.
    """
    if "inference-header-content-length" in payload.headers:
        raise InvalidRequest("Binary tensors are not supported; send the tensors as JSON, with images in base64")
    body = payload.body
    if isinstance(body, bytes | bytearray) and payload.content_type.lower().startswith(single_image.JSON):
        body = _parsed(body)
    if isinstance(body, Mapping):
        return body
    if body is not None and not isinstance(body, bytes | bytearray | str | Form):
        raise InvalidRequest(f'JSON body must be an object {{"image": "<base64>", …}}, got {truncated_repr(body)}')
    return None


def _parsed(body: bytes | bytearray) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest("Body is not valid JSON although its content type is application/json") from error
