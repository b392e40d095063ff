"""Default ports, defined once; `config.properties` and the Kubernetes manifests repeat them, and a test compares."""

from __future__ import annotations

HOST = "127.0.0.1"
INFERENCE = 8080
# TorchServe's other APIs follow the inference port in this order.
MANAGEMENT = INFERENCE + 1
METRICS = INFERENCE + 2
GRPC_INFERENCE = INFERENCE + 3
GRPC_MANAGEMENT = INFERENCE + 4
LENS = 8090

INFERENCE_URL = f"http://{HOST}:{INFERENCE}"
MANAGEMENT_URL = f"http://{HOST}:{MANAGEMENT}"
