"""TorchServe's entry to this archive."""

from __future__ import annotations

import importlib.metadata
import json
import logging
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from ts.context import Context
from ts.metrics.dimension import Dimension
from ts.metrics.metric_type_enum import MetricTypes
from ts.torch_handler.image_classifier import ImageClassifier

import gradcam
from gradcam import machine
from gradcam.errors import RequestError
from gradcam.explain import cam
from gradcam.message import RequestGroup, Result
from gradcam.pipeline import MAX_FORWARD, Batch, Forward, Pipeline
from gradcam.protocols import dispatch as wire
from gradcam.protocols.kserve import Model
from gradcam.settings import Settings

# What a map depends on, and the overlay.
PACKAGES = ("torch", "torchvision", "numpy", "pillow", "torchcodec", "opencv-python-headless", "torchserve")

logger = logging.getLogger(__name__)


class GradCAMHandler(ImageClassifier):  # type: ignore[misc]
    """Image classifier whose answers say which pixels spoke for the class.

    The phases are TorchServe's own. TorchServe accepts exactly one class in this file.
    """

    pipeline: Pipeline

    def initialize(self, context: Context) -> None:
        """Loads the network from the archive.

        In place of the stock handlers' `initialize`, which loads TorchScript or a pickle.
        """
        properties = context.system_properties
        model_dir = Path(properties["model_dir"])
        settings = Settings.from_mapping(context.model_yaml_config.get("gradcam"))
        # Torch would take all cores of a machine of which a container may use a few.
        torch.set_num_threads(min(torch.get_num_threads(), machine.cores()))
        self.manifest = context.manifest
        self.served = Model(self.manifest["model"]["modelName"], self.manifest["model"]["modelVersion"])
        self.device = _device(properties.get("gpu_id"))
        self.pipeline = Pipeline.load(
            model_dir,
            self.manifest["model"]["serializedFile"],
            settings,
            self.device,
            max_forward=properties.get("batch_size") or MAX_FORWARD,
        )
        machine.return_memory()
        self.pipeline.warm_up()
        self.model = self.pipeline.network
        self.initialized = True
        logger.info("%s is loaded on %s; explains %s", settings.architecture, self.device, settings.layer)

    def handle(self, data: list[dict[str, Any]], context: Context) -> list[Any]:
        """Answers a batch, or describes the model."""
        self.context = context
        # The stock handler asks for the header of the first request only, which a client may have sent, and then
        # answers the whole batch with one description. A genuine question is alone and empty.
        if data == [{}] and super()._is_describe():
            return [self.describe_handle()]
        answers: list[Any] = super().handle(data, context)
        return answers

    def preprocess(self, data: list[dict[str, Any]]) -> tuple[list[RequestGroup], Batch]:
        """Parses the rows and decodes their pictures."""
        self._record("gradcam_batch_size", len(data), "count", MetricTypes.HISTOGRAM)
        with self._timed("decode"):
            messages = [self._parse(row, index) for index, row in enumerate(data)]
            return messages, self.pipeline.preprocess([asked for message in messages for asked in message.requests])

    def inference(
        self, data: tuple[list[RequestGroup], Batch], *args: Any, **kwargs: Any
    ) -> tuple[list[RequestGroup], Forward]:
        """Runs the network without gradients."""
        messages, batch = data
        with self._timed("trunk"):
            return messages, self.pipeline.inference(batch)

    def postprocess(self, data: tuple[list[RequestGroup], Forward]) -> list[str | bytes]:
        """Explains, with gradients enabled, and renders a reply a row."""
        messages, forward = data
        with self._timed("explain"), torch.enable_grad():
            explained = self.pipeline.explain(forward)
        with self._timed("render"):
            results = iter(self.pipeline.results(explained))
            return [
                self._answer(message, list(islice(results, len(message.requests))), index)
                for index, message in enumerate(messages)
            ]

    def describe_handle(self) -> dict[str, Any]:
        """Returns what an auditor needs to reproduce a map: `GET :8081/models/{model}?customized=true`."""
        return {
            **self.pipeline.settings.to_mapping(),
            "methods": list(cam.METHODS),
            "layers": [name for name, _ in self.model.named_modules() if name],
            "cut": self.pipeline.splits[self.pipeline.settings.layer].method,
            "engine": self.pipeline.splits[self.pipeline.settings.layer].engine,
            "decoder": "pillow" if self.pipeline.decoder is None else "nvjpeg",
            "labels": list(self.pipeline.labels.names),
            "device": str(self.device),
            "versions": {
                "gradcam-serving": gradcam.__version__,
                "python": platform.python_version(),
                **{package: _version(package) for package in PACKAGES},
            },
        }

    def _is_describe(self) -> bool:
        # `handle` has decided it already.
        return False

    def _is_explain(self) -> bool:
        # Every answer here is explained, at `/explanations` as at `/predictions`, as its own options say.
        return False

    def _parse(self, row: dict[str, Any], index: int) -> RequestGroup:
        headers = self.context.get_all_request_header(index)
        return wire.parse(row, headers, self.pipeline.settings.max_instances, self.served)

    def _answer(self, message: RequestGroup, results: list[Result | RequestError], index: int) -> str | bytes:
        reply = wire.render(message, results, self.pipeline.settings.max_response_bytes)
        for error in reply.errors:
            self._record_refusal(error, index)
        explained = [result for result in results if isinstance(result, Result)]
        if without := sum(not explanation.evidence for result in explained for explanation in result.explanations):
            self._record("gradcam_maps_without_evidence_total", without, "count", MetricTypes.COUNTER)
        self.context.set_response_status(code=reply.status, phrase=reply.phrase, idx=index)
        self.context.set_response_content_type(index, reply.content_type)
        if wire.is_grpc(self.context.get_all_request_header(index)):
            # Of gRPC's StreamPredictions, which the handler cannot tell from Predictions, TorchServe expects to hear
            # that there is no more to come; otherwise it ends the worker. HTTP it would answer without a status.
            self.context.set_response_header(index, "ts_stream_next", "false")
        return reply.body

    def _record_refusal(self, error: RequestError, index: int) -> None:
        """Writes a line of JSON to the log, and counts."""
        said = {"status": error.status, "code": error.code, "message": str(error)}
        logger.info("%s", json.dumps({"event": "refused", "request_id": self.context.get_request_id(index), **said}))
        self._record("gradcam_errors_total", 1, "count", MetricTypes.COUNTER, Dimension("Code", error.code))

    @contextmanager
    def _timed(self, phase: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self._record(f"gradcam_{phase}_seconds", time.perf_counter() - start, "s", MetricTypes.HISTOGRAM)

    def _record(self, name: str, value: float, unit: str, kind: MetricTypes, *dimensions: Dimension) -> None:
        """Hands a value to TorchServe's metrics; `metrics.yaml` declares them."""
        self.context.metrics.add_metric(name, value, unit, dimensions=list(dimensions), metric_type=kind)


def _device(gpu_id: int | None) -> torch.device:
    return torch.device("cpu" if gpu_id is None or not torch.cuda.is_available() else f"cuda:{gpu_id}")


def _version(package: str) -> str | None:
    """Returns the version of an installed package; None where it is not there, or came under another name."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
