"""Every kind of call of Triton's two clients: triton_calls.py http|grpc HOST:PORT MODEL IMAGE.

Prints JSON: for each call the most probable label or another value, or the text of the exception.
"""

from __future__ import annotations

import base64
import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from tritonclient.utils import InferenceServerException

protocol, address, model, path = sys.argv[1:]
triton: Any = importlib.import_module(f"tritonclient.{protocol}")
client = triton.InferenceServerClient(address)
data = Path(path).read_bytes()
FILES = np.array([data], dtype=object)
TEXTS = np.array([base64.b64encode(data)], dtype=object)
PIXELS = np.load(Path(path).with_suffix(".npy"))[None]  # (1, H, W, 3)


def tensor(array: Any, datatype: str = "BYTES", **how: bool) -> Any:
    made = triton.InferInput("any", array.shape, datatype)
    made.set_data_from_numpy(array, **how)
    return made


def top(result: Any) -> Any:
    label = result.as_numpy("label")[0, 0]
    return label.decode() if isinstance(label, bytes) else label


def infer(array: Any = FILES, datatype: str = "BYTES", **options: Any) -> Any:
    return client.infer(model, [tensor(array, datatype)], **options)


def selected(*names: str) -> list[str]:
    outputs = [triton.InferRequestedOutput(name) for name in names]
    result = infer(outputs=outputs)
    return [name for name in OUTPUTS if result.as_numpy(name) is not None]


def metadata(found: Any) -> list[str]:
    tensors = found["inputs"] if protocol == "http" else found.inputs
    return [tensor["name"] if protocol == "http" else tensor.name for tensor in tensors]


def extensions(found: Any) -> list[str]:
    # TorchServe alone misspells the member.
    return list(found.get("extensions", []) if protocol == "http" else found.extensions)


OUTPUTS = ("label", "index", "heatmap", "probability")
CALLS: dict[str, Callable[[], Any]] = {
    "live": client.is_server_live,
    "ready": client.is_server_ready,
    "model ready": lambda: client.is_model_ready(model),
    "version ready": lambda: client.is_model_ready(model, "1.0"),
    "extensions": lambda: extensions(client.get_server_metadata()),
    "metadata": lambda: metadata(client.get_model_metadata(model)),
    "encoded image": lambda: top(infer()),
    "pixels": lambda: top(infer(PIXELS, "UINT8")),
    "identifier": lambda: top(infer(request_id="7")),
    "sequence": lambda: top(infer(sequence_id=3, sequence_start=True, priority=1, timeout=9)),
    "selected": lambda: selected("label", "heatmap"),
    "parameters": lambda: list(infer(parameters={"explain": 2, "topk": 3}).as_numpy("heatmap").shape),
    "version": lambda: top(infer(model_version="1.0")),
    "unknown version": lambda: infer(model_version="7"),
    "unknown model": lambda: client.infer("none", [tensor(FILES)]),
    "invalid option": lambda: infer(parameters={"topk": 0}),
    "no image": lambda: infer(np.array([b"no image"], dtype=object)),
    "config": lambda: str(client.get_model_config(model)),
}
HTTP: dict[str, Callable[[], Any]] = {
    "base64": lambda: top(client.infer(model, [tensor(TEXTS, binary_data=False)])),
    "JSON outputs": lambda: top(infer(outputs=[triton.InferRequestedOutput("label", binary_data=False)])),
    "gzip": lambda: top(infer(request_compression_algorithm="gzip")),
    "deflate": lambda: top(infer(request_compression_algorithm="deflate")),
    "async": lambda: top(client.async_infer(model, [tensor(FILES)]).get_result()),
}


def outcome(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except InferenceServerException as error:
        return str(error)


print(json.dumps({name: outcome(call) for name, call in (CALLS | (HTTP if protocol == "http" else {})).items()}))
