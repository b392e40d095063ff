"""Record requests of the real clients of KServe and Triton, for the tests that run without them.

build/clients/bin/python tests/clients/record.py > tests/support/client_requests.json
"""

from __future__ import annotations

import base64
import importlib.metadata
import json
from typing import Any

import kserve
import numpy as np
import tritonclient.http as triton

# 24 × 16 pixels, each channel rising along another direction.
COLUMNS, ROWS = np.meshgrid(np.arange(24, dtype=np.uint8) * 10, np.arange(16, dtype=np.uint8) * 15)
PIXELS = np.stack([COLUMNS, ROWS, 255 - COLUMNS], axis=2)  # (16, 24, 3)
BMP_HEADER = b"BM" + (54 + PIXELS.size).to_bytes(4, "little") + bytes(4) + (54).to_bytes(4, "little")
BMP_INFO = (
    (40).to_bytes(4, "little")
    + (24).to_bytes(4, "little")
    + (16).to_bytes(4, "little")
    + (1).to_bytes(2, "little")
    + (24).to_bytes(2, "little")
    + bytes(24)
)
BMP = BMP_HEADER + BMP_INFO + PIXELS[::-1, :, ::-1].tobytes()
BASE64 = base64.b64encode(BMP).decode()


def of_triton(array: Any, *, binary: bool, datatype: str = "BYTES", **arguments: Any) -> dict[str, Any]:
    """Return the request of tritonclient for one input tensor."""
    tensor = triton.InferInput("image", array.shape, datatype)
    tensor.set_data_from_numpy(array, binary_data=binary)
    body, length = triton.InferenceServerClient.generate_request_body([tensor], **arguments)
    return recorded(body, length)


def of_kserve(array: Any, *, binary: bool, datatype: str = "BYTES", **arguments: Any) -> dict[str, Any]:
    """Return the request of KServe's SDK for one input tensor."""
    tensor = kserve.InferInput("input-0", list(array.shape), datatype)
    tensor.set_data_from_numpy(array, binary_data=binary)
    request = kserve.InferRequest("any", [tensor], request_id="1", **arguments)
    body, length = request.to_rest()
    headers = {} if length is not None else {"Content-Type": "application/json"}
    return recorded(body if isinstance(body, bytes) else json.dumps(body).encode(), length, headers)


def recorded(body: bytes, length: int | None, headers: dict[str, str] | None = None) -> dict[str, Any]:
    """Return one request as JSON."""
    length_header = {} if length is None else {"Inference-Header-Content-Length": str(length)}
    return {"headers": {**(headers or {}), **length_header}, "body": base64.b64encode(body).decode()}


FILES = np.array([BMP], dtype=object)
TEXTS = np.array([BASE64.encode()], dtype=object)
LABEL = triton.InferRequestedOutput("label", binary_data=False)
HEATMAP = triton.InferRequestedOutput("heatmap", binary_data=True)
REQUESTS = {
    "tritonclient, encoded image, binary": of_triton(FILES, binary=True),
    "tritonclient, pixels, binary": of_triton(PIXELS[None], binary=True, datatype="UINT8"),
    "tritonclient, base64, JSON": of_triton(TEXTS, binary=False),
    "tritonclient, pixels, JSON": of_triton(PIXELS[None], binary=False, datatype="UINT8"),
    "tritonclient, parameters": of_triton(
        FILES, binary=True, request_id="7", sequence_id=3, sequence_start=True, priority=1, timeout=1000
    ),
    "tritonclient, requested outputs": of_triton(FILES, binary=True, outputs=[LABEL, HEATMAP]),
    "kserve, encoded image, binary": of_kserve(FILES, binary=True),
    "kserve, pixels, binary": of_kserve(PIXELS[None], binary=True, datatype="UINT8"),
    "kserve, base64, JSON": of_kserve(TEXTS, binary=False),
    "kserve, binary outputs": of_kserve(FILES, binary=True, parameters={"binary_data_output": True}),
}

if __name__ == "__main__":
    versions = {name: importlib.metadata.version(name) for name in ("tritonclient", "kserve")}
    document = {"versions": versions, "image": BASE64, "requests": REQUESTS}
    print(json.dumps(document, indent=1))
