"""Every door on one code path: a row of TorchServe's batch to a message, and its results to the reply."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from gradcam.errors import InvalidRequest, RequestError, TooLarge, truncated_repr
from gradcam.message import Reply, RequestGroup, Result
from gradcam.protocols import kserve
from gradcam.protocols import single_image as plain
from gradcam.protocols.kserve import Model

HEADER_PREFIX = "gradcam-"


def parse(row: Mapping[str, Any], headers: Mapping[str, Any], max_instances: int, model: Model) -> RequestGroup:
    """Reads a message: raw body, form, JSON, KServe or gRPC; options there or as `Gradcam-…` headers.

    Args:
        row: TorchServe's dict for the request, field to bytes, text or parsed JSON.
        headers: the request's headers, in any case.
        max_instances: the most pictures of one message.
        model: what KServe's answers call it.

    Returns:
        The message; one that cannot be read holds the error.
    """
    lowered = {name.lower(): value for name, value in headers.items() if isinstance(value, str)}
    defaults = {
        name.removeprefix(HEADER_PREFIX): value for name, value in lowered.items() if name.startswith(HEADER_PREFIX)
    }
    try:
        body = _json(row, lowered)
        if body is not None and is_grpc(headers) and "inputs" in body:
            return kserve.read_model_infer(body, max_instances, model)
        if body is not None and "instances" in body:
            return kserve.read_v1(body, defaults, max_instances, explain=lowered.get("explain", "").lower() == "true")
        if body is not None and "inputs" in body:
            return kserve.read_v2(body, defaults, max_instances, model)
        return plain.read(row if body is None else body, defaults, lowered.get("accept", ""))
    except RequestError as error:
        return RequestGroup([error], plain.reply)


def render(message: RequestGroup, results: Sequence[Result | RequestError], max_bytes: int) -> Reply:
    """Returns the reply to a message in the client's format; one of more than `max_bytes` is refused instead."""
    reply = message.reply(results)
    if len(reply.body) <= max_bytes:
        return reply
    error = TooLarge(
        f"the answer has {len(reply.body):,} bytes, the limit is {max_bytes:,}; ask for fewer classes, "
        "a jpeg overlay or none, or send fewer pictures at once",
        "answer_too_large",
    )
    return message.reply([error] * len(results))


def is_grpc(headers: Mapping[str, Any]) -> bool:
    """Tells whether a request came over gRPC: HTTP always has headers, gRPC only mappings of its inputs."""
    return not any(isinstance(value, str) for value in headers.values())


def _json(row: Mapping[str, Any], headers: Mapping[str, str]) -> Mapping[str, Any] | None:
    """Returns the JSON object that the body is; None where it is a picture or a form.

    Raises:
        InvalidRequest: it is JSON of another form, or should be JSON and is not, or tensors in binary.
    """
    if "inference-header-content-length" in headers:
        raise InvalidRequest("tensors in binary are not supported; send them as JSON, pictures in base64")
    body = row.get("body")
    if isinstance(body, bytes | bytearray) and headers.get("content-type", "").lower().startswith(plain.JSON):
        body = _parsed(body)  # TorchServe parses it only where the content type is spelled in one way
    if isinstance(body, Mapping):
        return body
    if body is not None and not isinstance(body, bytes | bytearray | str):
        raise InvalidRequest(f'the JSON must be an object {{"image": "<base64>", …}}, not {truncated_repr(body)}')
    return None


def _parsed(body: bytes | bytearray) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest("the body is not valid JSON, which its content type says it is") from error
