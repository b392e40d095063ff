"""Default host and ports, defined once.

`config.properties`, the files in `docker/`, and the Kubernetes manifests repeat them; a test compares.
Standard library only: the serving image and the health check use this module, too.
"""

from __future__ import annotations

HOST = "127.0.0.1"
INFERENCE = 8080
# TorchServe's other APIs follow the inference port in this order.
MANAGEMENT = INFERENCE + 1
METRICS = INFERENCE + 2
GRPC_INFERENCE = INFERENCE + 3
GRPC_MANAGEMENT = INFERENCE + 4
LENS = 8090

# In the image HAProxy owns the inference ports, and TorchServe those a thousand above them.
BEHIND_PROXY = 1000
# The server of V2's standard gRPC service, on loopback.
KSERVE_GRPC = 9085

# What a server uses its ports for: the inference port and the four after it.
PURPOSES = ("inference", "management", "metrics", "gRPC inference", "gRPC management")

INFERENCE_URL = f"http://{HOST}:{INFERENCE}"
MANAGEMENT_URL = f"http://{HOST}:{MANAGEMENT}"
