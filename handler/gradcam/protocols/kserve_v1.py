"""KServe's V1 protocol: several images as JSON instances."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from gradcam.errors import InvalidRequest, truncated_repr
from gradcam.message import Reply, RequestGroup
from gradcam.protocols import single_image
from gradcam.protocols.kserve_common import Results, check_count, check_members, errors, parameters, read_image

# TensorFlow Serving's clients send `signature_name`, which has no effect.
MEMBERS = ("instances", "parameters", "signature_name")


def read(
    body: Mapping[str, Any], header_options: Mapping[str, Any], max_instances: int, *, explain: bool
) -> RequestGroup:
    """Parse `{"instances": [{"image": …, …options}, …], "parameters": {…options of all images}}`.

    Args:
        body: the parsed JSON.
        header_options: options from headers.
        max_instances: maximum images per request.
        explain: whether the request came to `:explain`, whose reply repeats the explanations in `explanations`.

    Raises:
        InvalidRequest: the body has another form.
        TooMany: there are more instances.
    """
    check_members(body, MEMBERS)
    instances = body["instances"]
    if not isinstance(instances, list) or not instances:
        raise InvalidRequest(f'instances must be a list of {{"image": "<base64>", …}}, got {truncated_repr(instances)}')
    check_count(len(instances), max_instances)
    general_options = [header_options, parameters(body)]
    requests = [read_image(instance, general_options, len(instances)) for instance in instances]
    return RequestGroup(requests, partial(_reply, explain))


def _reply(explain: bool, results: Results) -> Reply:
    members: dict[str, Any] = {"predictions": [single_image.document(result) for result in results]}
    if explain:
        members["explanations"] = [document.get("explanations", []) for document in members["predictions"]]
    failed = errors(results)
    if len(failed) < len(results):
        return Reply(200, "OK", single_image.JSON, single_image.to_json(members), failed)
    body = single_image.to_json({**single_image.document(failed[0]), **members})
    return replace(single_image.rejection(failed[0]), body=body, errors=failed)
