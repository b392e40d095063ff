"""Protocol dispatch: parse a payload into a request group, and render its results as a reply."""

from __future__ import annotations

import codecs
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gradcam.errors import InvalidRequest, RequestError, TooLarge, truncated_repr
from gradcam.message import Reply, RequestGroup, Result, ServedModel
from gradcam.protocols import kserve_binary, kserve_v1, kserve_v2, single_image
from gradcam.protocols.content_encoding import decompress
from gradcam.protocols.kserve_binary import LENGTH_HEADER

HEADER_PREFIX = "gradcam-"
# JSON without a content type is recognized by its brace after at most this many bytes of white space.
MAX_BLANKS = 64


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


def parse(payload: Payload, model: ServedModel, max_instances: int, max_unpacked_bytes: int) -> RequestGroup:
    """Parse a payload of any protocol; options are in the body or in `gradcam-…` headers.

    Args:
        payload: what the server received.
        model: name and version of the model, for KServe's replies.
        max_instances: maximum images per request.
        max_unpacked_bytes: maximum size of a compressed body once it is decompressed.

    Returns:
        The request group; if the payload is invalid, the group consists of the error.
    """
    try:
        return _read(payload, _decompressed(payload, max_unpacked_bytes), model, max_instances)
    except RequestError as error:
        # Only V2 has this header.
        is_v2 = LENGTH_HEADER.lower() in payload.headers
        return kserve_v2.rejected(error) if is_v2 else RequestGroup([error], single_image.reply)


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


def _read(payload: Payload, body: Any, model: ServedModel, max_instances: int) -> RequestGroup:
    options = {
        name.removeprefix(HEADER_PREFIX): value
        for name, value in payload.headers.items()
        if name.startswith(HEADER_PREFIX)
    }
    accept = payload.headers.get("accept", "")
    length = payload.headers.get(LENGTH_HEADER.lower())
    if length is not None and isinstance(body, bytes | bytearray):
        v2_document, tail = kserve_binary.split(body, length)
        return kserve_v2.read(v2_document, options, model, max_instances, tail)
    document = _json(body, payload.content_type)
    if document is None:
        fields = _form_fields(body) if isinstance(body, Form) else {"image": body}
        return single_image.read(fields, options, accept)
    if payload.grpc and "inputs" in document:
        return kserve_v2.read_model_infer(document, model, max_instances)
    if "instances" in document:
        return kserve_v1.read(document, options, max_instances, explain=payload.explain)
    if "inputs" in document:
        return kserve_v2.read(document, options, model, max_instances)
    return single_image.read(document, options, accept)


def _decompressed(payload: Payload, max_bytes: int) -> Any:
    body, encoding = payload.body, payload.headers.get("content-encoding", "")
    return decompress(body, encoding, max_bytes) if isinstance(body, bytes | bytearray) else body


def _form_fields(form: Form) -> dict[str, Any]:
    """Return a form's fields, with base64 and data URLs of images decoded.

    Raises:
        InvalidRequest: the body is JSON that was sent as a form.
    """
    if any(name.lstrip().startswith("{") for name in form.fields):
        raise InvalidRequest("Body is JSON sent as a form; send it with Content-Type: application/json")
    return {
        name: single_image.from_base64(value) if name in single_image.IMAGE_FIELDS else value
        for name, value in form.fields.items()
    }


def _json(body: Any, content_type: str) -> Mapping[str, Any] | None:
    """Return the JSON object in the body, or None if the body is an image or a form.

    Raises:
        InvalidRequest: the body is JSON but not an object, or is not the JSON that its content type or its first
            character states.
    """
    if isinstance(body, bytes | bytearray | str):
        body = _parsed(body, content_type)
    if isinstance(body, Mapping):
        return body
    if body is not None and not isinstance(body, bytes | bytearray | str | Form):
        raise InvalidRequest(f'JSON body must be an object {{"image": "<base64>", …}}, got {truncated_repr(body)}')
    return None


def _parsed(body: bytes | bytearray | str, content_type: str) -> Any:
    """Parse a body that is JSON by its content type, or an object of JSON by its first character.

    Clients often send JSON without a content type, or with another one. No image begins with a brace.
    """
    declared = isinstance(body, bytes | bytearray) and content_type.lower().startswith(single_image.JSON)
    if not declared and not _begins_with_brace(body):
        return body
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        reason = f"its content type is {single_image.JSON}" if declared else "it begins with '{'"
        raise InvalidRequest(f"Body is not valid JSON although {reason}") from error


def _begins_with_brace(body: bytes | bytearray | str) -> bool:
    beginning = body[:MAX_BLANKS]
    if isinstance(beginning, str):
        return beginning.lstrip().startswith("{")
    return beginning.removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"{")
