"""A client for TorchServe's two gRPC services, with stubs made from the `.proto` files in TorchServe's own jar."""

from __future__ import annotations

import importlib
import importlib.resources
import sysconfig
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Event
from types import ModuleType
from typing import Any

import grpc
from grpc_tools import protoc

JAR = Path(sysconfig.get_path("purelib")) / "ts" / "frontend" / "model-server.jar"
PROTOS = ("inference.proto", "open_inference_grpc.proto", "google/rpc/status.proto")
OPTIONS = [("grpc.max_receive_message_length", 2**26), ("grpc.enable_http_proxy", 0)]
SECONDS = 60


def compile_stubs(folder: Path) -> None:
    """Generates the stubs as Python modules."""
    with zipfile.ZipFile(JAR) as jar:
        for name in PROTOS:
            jar.extract(name, folder)
    known = importlib.resources.files("grpc_tools") / "_proto"
    arguments = [f"-I{folder}", f"-I{known}", f"--python_out={folder}", f"--grpc_python_out={folder}", *PROTOS]
    assert protoc.main(["protoc", *arguments]) == 0


class GrpcClient:
    """Calls a server with the stubs, which must be importable."""

    def __init__(self, address: str) -> None:
        self.inference: ModuleType = importlib.import_module("inference_pb2")
        self.open_inference: ModuleType = importlib.import_module("open_inference_grpc_pb2")
        self.channel = grpc.insecure_channel(address, OPTIONS)
        self.torchserve = importlib.import_module("inference_pb2_grpc").InferenceAPIsServiceStub(self.channel)
        self.kserve = importlib.import_module("open_inference_grpc_pb2_grpc").GRPCInferenceServiceStub(self.channel)

    def request(self, model: str, inputs: dict[str, Any], **members: str) -> Any:
        """Returns a `PredictionsRequest`; text travels as UTF-8."""
        given = {name: value.encode() if isinstance(value, str) else value for name, value in inputs.items()}
        return self.inference.PredictionsRequest(model_name=model, input=given, **members)

    def predict(self, model: str, seconds: float = SECONDS, **inputs: Any) -> bytes:
        """Calls `Predictions`."""
        answer: bytes = self.torchserve.Predictions(self.request(model, inputs), timeout=seconds).prediction
        return answer

    def stream(self, model: str, seconds: float = SECONDS, **inputs: Any) -> list[bytes]:
        """Calls `StreamPredictions`."""
        return [
            part.prediction for part in self.torchserve.StreamPredictions(self.request(model, inputs), timeout=seconds)
        ]

    def converse(self, model: str, **inputs: Any) -> bytes:
        """Calls `StreamPredictions2`, and does not end its side before it has the answer."""
        answered = Event()

        def asked() -> Iterator[Any]:
            yield self.request(model, inputs, sequence_id="one")
            answered.wait(SECONDS)

        try:
            return bytes(next(self.torchserve.StreamPredictions2(asked(), timeout=SECONDS)).prediction)
        finally:
            answered.set()

    def infer(self, model: str, pictures: Sequence[bytes], seconds: float = SECONDS, **changes: Any) -> Any:
        """Calls `ModelInfer` with a tensor of pictures, or with members of it changed."""
        types = self.open_inference
        tensor = {
            "name": "image",
            "datatype": "BYTES",
            "shape": [len(pictures)],
            "contents": types.InferTensorContents(bytes_contents=pictures),
            **changes.pop("tensor", {}),
        }
        inputs = [types.ModelInferRequest.InferInputTensor(**tensor)]
        request = types.ModelInferRequest(**{"model_name": model, "inputs": inputs, **changes})
        return self.kserve.ModelInfer(request, timeout=seconds)
