"""A client of TorchServe's two gRPC services, with stubs generated from the `.proto` files in TorchServe's jar."""

from __future__ import annotations

import importlib
import importlib.resources
import importlib.util
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Event
from types import ModuleType
from typing import Any

import grpc
from grpc_tools import protoc

PROTOS = ("inference.proto", "open_inference_grpc.proto", "google/rpc/status.proto")
OPTIONS = [("grpc.max_receive_message_length", 2**26), ("grpc.enable_http_proxy", 0)]
SECONDS = 60


def compile_stubs(folder: Path) -> None:
    """Generate the stubs as Python modules in a folder."""
    package = importlib.util.find_spec("ts")
    assert package is not None
    assert package.origin is not None
    with zipfile.ZipFile(Path(package.origin).parent / "frontend" / "model-server.jar") as jar:
        for name in PROTOS:
            jar.extract(name, folder)
    common = importlib.resources.files("grpc_tools") / "_proto"
    arguments = [f"-I{folder}", f"-I{common}", f"--python_out={folder}", f"--grpc_python_out={folder}", *PROTOS]
    assert protoc.main(["protoc", *arguments]) == 0


class GrpcClient:
    """Calls a server with the generated stubs, which must be importable."""

    def __init__(self, address: str) -> None:
        self.inference: ModuleType = importlib.import_module("inference_pb2")
        self.open_inference: ModuleType = importlib.import_module("open_inference_grpc_pb2")
        self.channel = grpc.insecure_channel(address, OPTIONS)
        self.torchserve = importlib.import_module("inference_pb2_grpc").InferenceAPIsServiceStub(self.channel)
        self.kserve = importlib.import_module("open_inference_grpc_pb2_grpc").GRPCInferenceServiceStub(self.channel)

    def request(self, model: str, inputs: dict[str, Any], **members: str) -> Any:
        """Return a `PredictionsRequest`; text is sent as UTF-8."""
        encoded = {name: value.encode() if isinstance(value, str) else value for name, value in inputs.items()}
        return self.inference.PredictionsRequest(model_name=model, input=encoded, **members)

    def predict(self, model: str, seconds: float = SECONDS, **inputs: Any) -> bytes:
        """Call `Predictions`."""
        response: bytes = self.torchserve.Predictions(self.request(model, inputs), timeout=seconds).prediction
        return response

    def stream(self, model: str, seconds: float = SECONDS, **inputs: Any) -> list[bytes]:
        """Call `StreamPredictions`."""
        return [
            part.prediction for part in self.torchserve.StreamPredictions(self.request(model, inputs), timeout=seconds)
        ]

    def converse(self, model: str, **inputs: Any) -> bytes:
        """Call `StreamPredictions2`, keeping the client's side open until the response arrives."""
        answered = Event()

        def messages() -> Iterator[Any]:
            yield self.request(model, inputs, sequence_id="one")
            answered.wait(SECONDS)

        try:
            return bytes(next(self.torchserve.StreamPredictions2(messages(), timeout=SECONDS)).prediction)
        finally:
            answered.set()

    def infer(self, model: str, images: Sequence[bytes], seconds: float = SECONDS, **changes: Any) -> Any:
        """Call `ModelInfer` with a tensor of images; `changes` replace fields of the request."""
        types = self.open_inference
        tensor = {
            "name": "image",
            "datatype": "BYTES",
            "shape": [len(images)],
            "contents": types.InferTensorContents(bytes_contents=images),
            **changes.pop("tensor", {}),
        }
        inputs = [types.ModelInferRequest.InferInputTensor(**tensor)]
        request = types.ModelInferRequest(**{"model_name": model, "inputs": inputs, **changes})
        return self.kserve.ModelInfer(request, timeout=seconds)
