"""TorchServe's conventions for rows and headers, translated to a payload for `protocols.dispatch`.

TorchServe hands over one row per request: `{"body": …}` for a raw body, which it parses if the content type is
`application/json`; otherwise a form's fields, or a gRPC call's inputs. Over gRPC it sends no headers but a mapping for
each input, and KServe's ModelInfer arrives as V2's JSON in the input `body`. It adds the header `explain` to requests
at `/explanations` and `:explain`, and leaves SageMaker's `model_name` of `/invocations`, by which it has chosen the
model, among the fields. It reads headers as Latin-1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gradcam.protocols.dispatch import Form, Payload

EXPLAIN_HEADER = "explain"
MODEL_FIELD = "model_name"


def payload(row: Mapping[str, Any], headers: Mapping[str, Any]) -> Payload:
    """Return the payload of one row.

    Args:
        row: field name to bytes, text or parsed JSON.
        headers: the request's headers, with names in any case.
    """
    text_headers = {name.lower(): _as_utf8(value) for name, value in headers.items() if isinstance(value, str)}
    fields = {name: value for name, value in row.items() if name != MODEL_FIELD}
    return Payload(
        body=_body(fields),
        content_type=text_headers.get("content-type", ""),
        headers=text_headers,
        grpc=is_grpc(headers),
        explain=text_headers.get(EXPLAIN_HEADER, "").lower() == "true",
    )


def is_grpc(headers: Mapping[str, Any]) -> bool:
    """Tell whether a request came over gRPC: HTTP always has headers, gRPC only mappings of its inputs."""
    return not any(isinstance(value, str) for value in headers.values())


def _body(row: Mapping[str, Any]) -> Any:
    if "body" not in row:
        return Form(row)
    body = row["body"]
    # A form may have a field of that name, too.
    return Form(row) if len(row) > 1 and isinstance(body, bytes | bytearray | str) else body


def _as_utf8(value: str) -> str:
    """Return a header as the UTF-8 that most clients send; the Latin-1 of others is unchanged."""
    try:
        return value.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return value
