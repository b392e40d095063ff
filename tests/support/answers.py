"""One answer of a server, as a JSON document in each protocol."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from tools.load import protocols


def jpeg_url(width: int, height: int) -> str:
    file = io.BytesIO()
    Image.new("RGB", (width, height)).save(file, "jpeg")
    return f"data:image/jpeg;base64,{protocols.base64_text(file.getvalue())}"


def explanation(index: int, label: str, probability: float, heatmap: list[list[float]]) -> dict[str, Any]:
    evidence = bool(np.max(heatmap) > 0)
    return {
        "index": index,
        "label": label,
        "probability": probability,
        "evidence": evidence,
        "heatmap": heatmap,
        "peak": [31, 4] if evidence else None,
        "strength": 1.5 if evidence else 0.0,
    }


DOCUMENT: dict[str, Any] = {
    "predictions": [
        {"index": 7, "label": "cat", "probability": 0.6},
        {"index": 3, "label": "dog", "probability": 0.25},
    ],
    "explanations": [
        explanation(7, "cat", 0.6, [[0.0, 1.0, 0.2], [0.1, 0.3, 0.4]]),
        explanation(3, "dog", 0.25, [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]),
    ],
    "method": "gradcam",
    "layer": "layer4",
    "image": {"width": 60, "height": 40, "region": [10, 0, 50, 40]},
    "model": {"name": "pets", "version": "1.0", "weights": "0123456789ab"},
}

TENSORS = {
    "index": ("INT64", [1, 2], [7, 3]),
    "label": ("BYTES", [1, 2], ["cat", "dog"]),
    "probability": ("FP32", [1, 2], [0.6, 0.25]),
    "target": ("INT64", [1, 2], [7, 3]),
    "evidence": ("BOOL", [1, 2], [True, False]),
    "peak": ("INT64", [1, 2, 2], [31, 4, -1, -1]),
    "strength": ("FP32", [1, 2], [1.5, 0.0]),
    "heatmap": ("FP32", [1, 2, 2, 3], [0.0, 1.0, 0.2, 0.1, 0.3, 0.4, *[0.0] * 6]),
    "region": ("INT64", [1, 4], [10, 0, 50, 40]),
}


def document(protocol: str) -> Any:
    """Return the answer in a protocol."""
    if protocol == "v1":
        return {"predictions": [DOCUMENT]}
    if protocol == "v2":
        fields = ("name", "datatype", "shape", "data")
        return {"outputs": [dict(zip(fields, (name, *tensor), strict=True)) for name, tensor in TENSORS.items()]}
    return DOCUMENT


def changed(change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    """Return a changed copy of `DOCUMENT`."""
    copied = copy.deepcopy(DOCUMENT)
    change(copied)
    return copied
