"""Classify and explain an image with KServe's SDK: kserve_sdk.py [HOST:PORT MODEL IMAGE]."""

import asyncio
import sys
from pathlib import Path

import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig

address, model, path = sys.argv[1:] or ("127.0.0.1:8080", "efficientnet_lite0", "examples/chelsea.jpg")


async def main() -> None:
    """Send one image with binary tensors in both directions."""
    image = InferInput("image", [1], "BYTES")
    image.set_data_from_numpy(np.array([Path(path).read_bytes()], dtype=object), binary_data=True)
    request = InferRequest(model, [image], parameters={"explain": 2, "binary_data_output": True})
    client = InferenceRESTClient(RESTConfig(protocol="v2", timeout=60))
    response = await client.infer(f"http://{address}", request, model_name=model)
    outputs = {output.name: output.as_numpy() for output in response.outputs}
    print(outputs["label"][0, 0], outputs["probability"][0, 0], outputs["heatmap"].shape)


asyncio.run(main())
