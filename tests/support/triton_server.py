"""A stand-in for Triton: it answers V2's binary protocol with fixed numbers, and records the tensors that arrive."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
from numpy.typing import NDArray

DTYPES = {"UINT8": "u1", "INT64": "<i8", "FP32": "<f4", "BOOL": "?"}
JSON_LENGTH = "Inference-Header-Content-Length"


@dataclass
class StandIn:
    """What the server says and what it received."""

    inputs: dict[str, tuple[str, list[int]]]
    """Datatype and shape of each input; -1 is any size."""
    outputs: dict[str, tuple[str, NDArray[Any]]]
    """Datatype and value of each output."""
    address: str = ""
    received: dict[str, NDArray[Any]] = field(default_factory=dict)

    def metadata(self) -> dict[str, Any]:
        """Return V2's metadata of the model."""
        tensors = [
            {"name": name, "datatype": datatype, "shape": shape} for name, (datatype, shape) in self.inputs.items()
        ]
        return {"name": "model", "platform": "onnxruntime_onnx", "versions": ["1"], "inputs": tensors, "outputs": []}

    def infer(self, body: bytes, json_length: int) -> tuple[bytes, int]:
        """Decode a request; return the response and the length of its JSON."""
        tail = body[json_length:]
        for tensor in json.loads(body[:json_length])["inputs"]:
            datatype, expected = self.inputs[tensor["name"]]
            shape = tensor["shape"]
            assert tensor["datatype"] == datatype
            assert len(shape) == len(expected)
            assert all(size in (-1, given) for size, given in zip(expected, shape, strict=True))
            size = tensor["parameters"]["binary_data_size"]
            assert size == math.prod(shape) * np.dtype(DTYPES[datatype]).itemsize
            self.received[tensor["name"]] = np.frombuffer(tail[:size], DTYPES[datatype]).reshape(shape)
            tail = tail[size:]
        assert not tail
        outputs = [
            {
                "name": name,
                "datatype": datatype,
                "shape": list(value.shape),
                "parameters": {"binary_data_size": value.astype(DTYPES[datatype]).nbytes},
            }
            for name, (datatype, value) in self.outputs.items()
        ]
        document = json.dumps({"model_name": "model", "model_version": "1", "outputs": outputs}).encode()
        data = b"".join(value.astype(DTYPES[datatype]).tobytes() for datatype, value in self.outputs.values())
        return document + data, len(document)


@contextmanager
def running(stand_in: StandIn) -> Iterator[StandIn]:
    """Serve on a free port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer(json.dumps(stand_in.metadata()).encode())

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.answer(*stand_in.infer(body, int(self.headers[JSON_LENGTH])))

        def answer(self, body: bytes, json_length: int | None = None) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            if json_length is not None:
                self.send_header(JSON_LENGTH, str(json_length))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        stand_in.address = f"127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield stand_in
        finally:
            server.shutdown()
            thread.join()
