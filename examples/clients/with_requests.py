"""Classify and explain an image with the package requests: with_requests.py [HOST:PORT MODEL IMAGE]."""

import sys
from pathlib import Path

import requests

address, model, path = sys.argv[1:] or ("127.0.0.1:8080", "efficientnet_lite0", "examples/chelsea.jpg")
response = requests.post(
    f"http://{address}/predictions/{model}",
    data=Path(path).read_bytes(),
    headers={"Content-Type": "application/octet-stream", "Gradcam-Explain": "2"},
    timeout=60,
)
answer = response.json()
if not response.ok:
    raise SystemExit(answer["error"]["message"])
best = answer["predictions"][0]
print(best["label"], best["probability"], len(answer["explanations"]))
