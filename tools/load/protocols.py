"""The HTTP protocols of a model: the same request in each, and its answer in one form.

image, options → Protocol.request → TestRequest → server → Protocol.parse → ParsedAnswer → checking.mismatches

gRPC is not among them: it has no HTTP status and needs another client.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from urllib3 import encode_multipart_formdata

from tools.load.answer import MalformedAnswer, ParsedAnswer, parse, parse_instances, parse_tensors
from tools.load.request import TestRequest

Options = Mapping[str, str]

JSON = {"Content-Type": "application/json"}


def as_bytes(image: bytes, options: Options) -> TestRequest:
    """Send the file unchanged, and options as headers."""
    headers = {f"Gradcam-{name.capitalize()}": value for name, value in options.items()}
    return TestRequest(image, {"Content-Type": "application/octet-stream", **headers})


def as_form(image: bytes, options: Options) -> TestRequest:
    """Send the file and options as a multipart form."""
    body, content_type = encode_multipart_formdata({"data": ("image", image, "image/*"), **options})
    return TestRequest(body, {"Content-Type": content_type})


def as_json(image: bytes, options: Options) -> TestRequest:
    """Send a JSON object with the image and options."""
    return TestRequest(json.dumps({"image": base64_text(image), **options}).encode(), JSON)


def as_instances(image: bytes, options: Options) -> TestRequest:
    """Send one instance of KServe V1."""
    instance = {"image": {"b64": base64_text(image)}, **options}
    return TestRequest(json.dumps({"instances": [instance]}).encode(), JSON)


def as_tensors(image: bytes, options: Options) -> TestRequest:
    """Send a KServe V2 tensor that holds one image."""
    tensor = {"name": "image", "shape": [1], "datatype": "BYTES", "data": [base64_text(image)]}
    return TestRequest(json.dumps({"inputs": [tensor], "parameters": options}).encode(), JSON)


def base64_text(image: bytes) -> str:
    """Return an image in Base64."""
    return base64.b64encode(image).decode("ascii")


@dataclass(frozen=True)
class Protocol:
    """One way to send an image to a model.

    Attributes:
        path_template: of the address, with the placeholder `model`.
        request: encodes an image and its options.
        parser: parses the JSON document of an answer.
    """

    path_template: str
    request: Callable[[bytes, Options], TestRequest]
    parser: Callable[[Any], ParsedAnswer]

    def path(self, model: str) -> str:
        """Return the path of a model's address."""
        return self.path_template.format(model=quote(model, safe=""))

    def parse(self, body: bytes) -> ParsedAnswer:
        """Parse the body of an answer.

        Raises:
            MalformedAnswer: the body has another form.
        """
        try:
            return self.parser(json.loads(body))
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            raise MalformedAnswer(
                f"not the answer of a Grad-CAM model: {body[:80].decode(errors='replace')}"
            ) from error


PROTOCOLS = {
    "raw": Protocol("/predictions/{model}", as_bytes, parse),
    "form": Protocol("/predictions/{model}", as_form, parse),
    "json": Protocol("/predictions/{model}", as_json, parse),
    "v1": Protocol("/v1/models/{model}:predict", as_instances, parse_instances),
    "v2": Protocol("/v2/models/{model}/infer", as_tensors, parse_tensors),
}
