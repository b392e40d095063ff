"""TorchServe's entry to this archive."""

from __future__ import annotations

import logging
import platform
from pathlib import Path
from typing import Any

import torch
import torchvision
from ts.context import Context
from ts.torch_handler.image_classifier import ImageClassifier

from gradcam import cam, wire
from gradcam.errors import RequestError
from gradcam.pipeline import Batch, Forward, Pipeline
from gradcam.settings import Settings
from gradcam.wire import Reply, Request

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
        self.manifest = context.manifest
        self.device = _device(properties.get("gpu_id"))
        self.pipeline = Pipeline.load(model_dir, self.manifest["model"]["serializedFile"], settings, self.device)
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

    def preprocess(self, data: list[dict[str, Any]]) -> Batch:
        """Parses the rows and decodes their pictures."""
        return self.pipeline.preprocess([self._parse(row, index) for index, row in enumerate(data)])

    def inference(self, data: Batch, *args: Any, **kwargs: Any) -> Forward:
        """Runs the network without gradients."""
        return self.pipeline.inference(data)

    def postprocess(self, data: Forward) -> list[str | bytes]:
        """Explains, with gradients enabled, and renders a reply a row."""
        with torch.enable_grad():
            results = self.pipeline.postprocess(data)
        return [self._send(wire.render(result), index) for index, result in enumerate(results)]

    def describe_handle(self) -> dict[str, Any]:
        """Returns what an auditor needs to reproduce a map: `GET :8081/models/{model}?customized=true`."""
        return {
            **self.pipeline.settings.to_mapping(),
            "methods": list(cam.METHODS),
            "layers": [name for name, _ in self.model.named_modules() if name],
            "cut": self.pipeline.splits[self.pipeline.settings.layer].way,
            "labels": list(self.pipeline.labels.names),
            "device": str(self.device),
            "versions": {
                "python": platform.python_version(),
                "torch": torch.__version__,
                "torchvision": torchvision.__version__,
            },
        }

    def _is_describe(self) -> bool:
        # `handle` has decided it already.
        return False

    def _is_explain(self) -> bool:
        # Every answer here is explained, at `/explanations` as at `/predictions`, as its own options say.
        return False

    def _parse(self, row: dict[str, Any], index: int) -> Request | RequestError:
        try:
            return wire.parse(row, self.context.get_all_request_header(index))
        except RequestError as error:
            return error

    def _send(self, reply: Reply, index: int) -> str | bytes:
        if reply.status != 200:
            logger.info("refused request %s: %d %s", self.context.get_request_id(index), reply.status, reply.body)
        self.context.set_response_status(code=reply.status, phrase=reply.phrase, idx=index)
        self.context.set_response_content_type(index, reply.content_type)
        return reply.body


def _device(gpu_id: int | None) -> torch.device:
    return torch.device("cpu" if gpu_id is None or not torch.cuda.is_available() else f"cuda:{gpu_id}")
