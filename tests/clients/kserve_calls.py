"""Every kind of call of KServe's SDK: kserve_calls.py HOST:PORT GRPC_HOST:PORT MODEL IMAGE; see triton_calls.py."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig

address, grpc_address, model, path = sys.argv[1:]
url = f"http://{address}"
data = Path(path).read_bytes()
TEXT = base64.b64encode(data).decode()
FILES = np.array([data], dtype=object)
PIXELS = np.load(Path(path).with_suffix(".npy"))[None]  # (1, H, W, 3)


def request(array: Any = FILES, datatype: str = "BYTES", binary: bool = True, **options: Any) -> InferRequest:
    image = InferInput("input-0", list(array.shape), datatype)
    image.set_data_from_numpy(array, binary_data=binary)
    return InferRequest(model, [image], parameters=options or None)


def label(response: Any) -> str:
    outputs = {output.name: output for output in response.outputs}
    found = outputs["label"].as_numpy()[0, 0]
    return found.decode() if isinstance(found, bytes) else str(found)


async def calls() -> dict[str, Callable[[], Awaitable[Any]]]:
    v1, v2 = (InferenceRESTClient(RESTConfig(protocol=protocol, timeout=60, retries=0)) for protocol in ("v1", "v2"))
    rpc = InferenceGRPCClient(grpc_address, retries=0)

    async def v1_label(instance: Any, **members: Any) -> Any:
        body = {"instances": [instance], **members}
        return (await v1.infer(url, body, model_name=model))["predictions"][0]["predictions"][0]["label"]

    async def v2_label(sent: Any) -> str:
        return label(await v2.infer(url, sent, model_name=model))

    async def rpc_label(sent: Any) -> str:
        return label(await rpc.infer(sent))

    async def explained() -> str:
        answer = await v1.explain(url, model, {"instances": [TEXT]})
        return str(answer["explanations"][0][0]["label"])

    texts = np.array([TEXT], dtype=object)
    return {
        "v1 live": lambda: v1.is_server_live(url),
        "v1 model ready": lambda: v1.is_model_ready(url, model),
        "v1": lambda: v1_label({"image": {"b64": TEXT}}),
        "v1 TensorFlow": lambda: v1_label({"b64": TEXT}, signature_name="serving_default"),
        "v1 explain": explained,
        "v2 live": lambda: v2.is_server_live(url),
        "v2 ready": lambda: v2.is_server_ready(url),
        "v2 model ready": lambda: v2.is_model_ready(url, model),
        "v2 unknown model ready": lambda: v2.is_model_ready(url, "none"),
        "v2 binary": lambda: v2_label(request()),
        "v2 binary outputs": lambda: v2_label(request(binary_data_output=True)),
        "v2 pixels": lambda: v2_label(request(PIXELS, "UINT8")),
        "v2 base64": lambda: v2_label(request(texts, binary=False)),
        "v2 invalid option": lambda: v2_label(request(topk=0)),
        "grpc live": rpc.is_server_live,
        "grpc ready": rpc.is_server_ready,
        "grpc model ready": lambda: rpc.is_model_ready(model),
        "grpc raw": lambda: rpc_label(request()),
        "grpc contents": lambda: rpc_label(InferRequest(model, [InferInput("x", [1], "BYTES", [data])])),
        "grpc pixels": lambda: rpc_label(request(PIXELS, "UINT8")),
        "grpc invalid option": lambda: rpc_label(request(topk=0)),
    }


async def main() -> None:
    """Print the outcome of each call."""
    logging.disable()
    found = {}
    for name, call in (await calls()).items():
        try:
            found[name] = await call()
        except httpx.HTTPStatusError as error:
            found[name] = f"[{error.response.status_code}] {error.response.text}"
        except grpc.RpcError as error:
            found[name] = f"[{error.code()}] {error.details()}"
    print(json.dumps(found))


asyncio.run(main())
