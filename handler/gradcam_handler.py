"""The TorchServe adapter: its four phases, its metrics and log, and the model's description."""

from __future__ import annotations

import importlib.metadata
import json
import logging
import platform
import sys
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

import gradcam
import torchserve_rows
from gradcam import machine
from gradcam.batch import Batch, Forward
from gradcam.errors import RequestError
from gradcam.message import RequestGroup, Result
from gradcam.pipeline import MAX_FORWARD, Pipeline
from gradcam.protocols import dispatch
from gradcam.settings import Settings
from gradcam.turn import Turn

# TorchServe's handlers import OpenVINO's backend for torch.compile, which takes seconds to load and is not used here.
# They work without it. Python raises ImportError for a module that `sys.modules` maps to None.
sys.modules.setdefault("openvino.torch", None)  # type: ignore[arg-type]
from ts.torch_handler.image_classifier import ImageClassifier  # noqa: E402  after the line above

# Packages that a map or an overlay depends on.
PACKAGES = ("torch", "torchvision", "numpy", "pillow", "torchcodec", "opencv-python-headless", "openvino", "torchserve")

logger = logging.getLogger(__name__)


class GradCAMHandler(ImageClassifier):  # type: ignore[misc]
    """Image classifier that explains its predictions with heatmaps.

    The phases are TorchServe's. TorchServe accepts exactly one class in this file.
    """

    pipeline: Pipeline

    def initialize(self, context: Context) -> None:
        """Load the network from the archive.

        Replaces the stock handlers' `initialize`, which loads TorchScript or a pickle.
        """
        properties = context.system_properties
        model_dir = Path(properties["model_dir"])
        settings = Settings.from_mapping(context.model_yaml_config.get("gradcam"))
        # Torch would use all cores of the machine, even if the container may use only a few.
        torch.set_num_threads(min(torch.get_num_threads(), machine.cores()))
        self.manifest = context.manifest
        model = self.manifest["model"]
        self.device = _device(properties.get("gpu_id"))
        max_forward = properties.get("batch_size") or MAX_FORWARD
        self.pipeline = Pipeline.load(model_dir, model["serializedFile"], settings, self.device, max_forward)
        # All workers of a model run in its folder.
        self.pipeline.batch_explainer.turn = Turn(model_dir)
        machine.return_memory()
        self.pipeline.warm_up()
        self.model = self.pipeline.network
        self.initialized = True
        logger.info("Loaded %s on %s; explaining layer %s", settings.architecture, self.device, settings.layer)

    def handle(self, data: list[dict[str, Any]], context: Context) -> list[Any]:
        """Answer a batch, or describe the model."""
        self.context = context
        # The stock handler checks only the first request's header, which any client may send, and then answers the
        # whole batch with one description. A genuine describe request is alone and empty.
        if data == [{}] and super()._is_describe():
            return [self.describe_handle()]
        replies: list[Any] = super().handle(data, context)
        return replies

    def preprocess(self, data: list[dict[str, Any]]) -> tuple[list[RequestGroup], Batch]:
        """Parse the rows and decode their images."""
        self._record("gradcam_batch_size", len(data), "count", MetricTypes.HISTOGRAM)
        with self._timed("decode"):
            groups = [self._parse(row, index) for index, row in enumerate(data)]
            return groups, self.pipeline.preprocess([request for group in groups for request in group.requests])

    def inference(
        self, data: tuple[list[RequestGroup], Batch], *args: Any, **kwargs: Any
    ) -> tuple[list[RequestGroup], Forward]:
        """Run the network without gradients."""
        groups, batch = data
        with self._timed("trunk"):
            return groups, self.pipeline.inference(batch)

    def postprocess(self, data: tuple[list[RequestGroup], Forward]) -> list[str | bytes]:
        """Explain, with gradients enabled, and render one reply per row."""
        groups, forward = data
        with self._timed("explain"), torch.enable_grad():
            explained = self.pipeline.explain(forward)
        with self._timed("render"):
            results = iter(self.pipeline.results(explained))
            return [
                self._reply(group, list(islice(results, len(group.requests))), index)
                for index, group in enumerate(groups)
            ]

    def describe_handle(self) -> dict[str, Any]:
        """Return what an auditor needs to reproduce a map: `GET :8081/models/{model}?customized=true`."""
        return {
            **self.pipeline.describe(),
            "versions": {
                "gradcam-serving": gradcam.__version__,
                "python": platform.python_version(),
                **{package: _version(package) for package in PACKAGES},
            },
        }

    def _is_describe(self) -> bool:
        # `handle` has already decided.
        return False

    def _is_explain(self) -> bool:
        # Every reply is explained according to its own options, at `/explanations` as at `/predictions`.
        return False

    def _parse(self, row: dict[str, Any], index: int) -> RequestGroup:
        payload = torchserve_rows.payload(row, self.context.get_all_request_header(index))
        settings = self.pipeline.settings
        return dispatch.parse(payload, self.pipeline.served, settings.max_instances, settings.max_image_bytes)

    def _reply(self, group: RequestGroup, results: list[Result | RequestError], index: int) -> str | bytes:
        reply = dispatch.render(group, results, self.pipeline.settings.max_response_bytes)
        for error in reply.errors:
            self._record_rejection(error, index)
        explanations = [entry for result in results if isinstance(result, Result) for entry in result.explanations]
        if blank := sum(not explanation.evidence for explanation in explanations):
            self._record("gradcam_maps_without_evidence_total", blank, "count", MetricTypes.COUNTER)
        self.context.set_response_status(code=reply.status, phrase=reply.phrase, idx=index)
        self.context.set_response_content_type(index, reply.content_type)
        for name, value in reply.headers.items():
            self.context.set_response_header(index, name, value)
        if torchserve_rows.is_grpc(self.context.get_all_request_header(index)):
            # For gRPC's StreamPredictions, which the handler cannot distinguish from Predictions, TorchServe kills
            # the worker unless this header ends the stream. Over HTTP the header would drop the status.
            self.context.set_response_header(index, "ts_stream_next", "false")
        return reply.body

    def _record_rejection(self, error: RequestError, index: int) -> None:
        """Log a rejected request as a line of JSON, and count it."""
        event = {
            "event": "refused",
            "request_id": self.context.get_request_id(index),
            "status": error.status,
            "code": error.code,
            "message": str(error),
        }
        logger.info("%s", json.dumps(event))
        self._record("gradcam_errors_total", 1, "count", MetricTypes.COUNTER, Dimension("Code", error.code))

    @contextmanager
    def _timed(self, phase: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self._record(f"gradcam_{phase}_seconds", time.perf_counter() - start, "s", MetricTypes.HISTOGRAM)

    def _record(self, name: str, value: float, unit: str, kind: MetricTypes, *dimensions: Dimension) -> None:
        """Pass a value to TorchServe's metrics, which `metrics.yaml` declares."""
        self.context.metrics.add_metric(name, value, unit, dimensions=list(dimensions), metric_type=kind)


def _device(gpu_id: int | None) -> torch.device:
    return torch.device("cpu" if gpu_id is None or not torch.cuda.is_available() else f"cuda:{gpu_id}")


def _version(package: str) -> str | None:
    """Return a package's version; None if it is not installed, or installed under another name."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
