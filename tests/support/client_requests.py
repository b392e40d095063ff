"""Recorded requests of the real clients of KServe and Triton; `tests/clients/record.py` records them."""

from __future__ import annotations

import base64
import io
import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.support.encoding import Pixels

DOCUMENT: dict[str, Any] = json.loads(Path(__file__).with_name("client_requests.json").read_text(encoding="utf-8"))
# The image of every request: the file, and its pixels (16, 24, 3).
FILE = base64.b64decode(DOCUMENT["image"])
PIXELS: Pixels = np.asarray(Image.open(io.BytesIO(FILE)))


@dataclass(frozen=True)
class Recorded:
    """A request as its client sends it."""

    headers: dict[str, str]
    body: bytes


REQUESTS = {
    name: Recorded(recorded["headers"], base64.b64decode(recorded["body"]))
    for name, recorded in DOCUMENT["requests"].items()
}


def tensors(body: bytes, json_length: int | None) -> dict[str, dict[str, Any]]:
    """Decode a V2 response independently of the handler; return its tensors in JSON form by name."""
    document = json.loads(body[:json_length])
    tail = body[len(body) if json_length is None else json_length :]
    for tensor in document["outputs"]:
        if "data" not in tensor:
            size = tensor.pop("parameters")["binary_data_size"]
            tensor["data"] = _values(tensor["datatype"], tail[:size])
            tail = tail[size:]
    assert not tail
    return {tensor.pop("name"): tensor for tensor in document["outputs"]}


def _values(datatype: str, data: bytes) -> list[Any]:
    if datatype != "BYTES":
        kinds = {"INT64": "<i8", "FP32": "<f4", "BOOL": "?"}
        numbers: list[Any] = np.frombuffer(data, kinds[datatype]).tolist()
        return numbers
    texts = []
    while data:
        (size,) = struct.unpack("<I", data[:4])
        texts.append(data[4 : 4 + size].decode())
        data = data[4 + size :]
    return texts
