"""Classify and explain an image with Triton's gRPC client: triton_grpc.py [HOST:PORT MODEL IMAGE].

It needs the container image: TorchServe alone does not answer under the standard name of the service.
"""

import sys
from pathlib import Path

import numpy as np
import tritonclient.grpc as triton

address, model, path = sys.argv[1:] or ("127.0.0.1:8083", "efficientnet_lite0", "examples/chelsea.jpg")

image = triton.InferInput("image", [1], "BYTES")
image.set_data_from_numpy(np.array([Path(path).read_bytes()], dtype=object))
with triton.InferenceServerClient(address) as client:
    result = client.infer(model, [image], parameters={"explain": 2})

labels = result.as_numpy("label")  # (1, 5)
heatmaps = result.as_numpy("heatmap")  # (1, 2, 7, 7)
print(labels[0, 0].decode(), result.as_numpy("probability")[0, 0], heatmaps.shape)
