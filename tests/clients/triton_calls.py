"""Every kind of call of Triton's clients: triton_calls.py HOST:PORT GRPC_HOST:PORT MODEL IMAGE."""

from __future__ import annotations

import base64
import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

address, grpc_address, model, path = sys.argv[1:]
data = Path(path).read_bytes()
client = triton.InferenceServerClient(address)


def tensor(array: Any, *, binary: bool = True, datatype: str = "BYTES") -> Any:
    made = triton.InferInput("any", array.shape, datatype)
    made.set_data_from_numpy(array, binary_data=binary)
    return made


def top(result: Any) -> Any:
    label = result.as_numpy("label")[0, 0]
    return label.decode() if isinstance(label, bytes) else label


files = np.array([data], dtype=object)
texts = np.array([base64.b64encode(data)], dtype=object)
pixels = np.load(io.BytesIO(Path(path).with_suffix(".npy").read_bytes()))  # (H, W, 3)
outputs = [triton.InferRequestedOutput(name, binary_data=name != "label") for name in ("label", "heatmap")]
found = {
    "live": client.is_server_live(),
    "binary": top(client.infer(model, [tensor(files)])),
    "json": top(client.infer(model, [tensor(texts, binary=False)])),
    "pixels": top(client.infer(model, [tensor(pixels[None], datatype="UINT8")])),
    "outputs": top(client.infer(model, [tensor(files)], outputs=outputs)),
    "gzip": top(client.infer(model, [tensor(files)], request_compression_algorithm="gzip")),
    "deflate": top(client.infer(model, [tensor(files)], request_compression_algorithm="deflate")),
    "sequence": top(client.infer(model, [tensor(files)], sequence_id=3, sequence_start=True, priority=1, timeout=9)),
    "async": top(client.async_infer(model, [tensor(files)]).get_result()),
}
for name, call in {
    "error": lambda: client.infer(model, [tensor(files)], parameters={"topk": 0}),
    "version": lambda: client.infer(model, [tensor(files)], model_version="1.0"),
}.items():
    try:
        call()
    except InferenceServerException as error:
        found[name] = str(error)
try:
    triton_grpc.InferenceServerClient(grpc_address).is_server_live()
except InferenceServerException as error:
    found["grpc"] = str(error)
print(json.dumps(found))
