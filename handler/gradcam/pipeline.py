"""The steps of a request, for a batch in which any request may fail alone.

`preprocess` checks the requests and decodes their images, `inference` runs the network without gradients and keeps the
activations at the split point, `explain` replays the head on them with gradients, and `results` builds the results.

A batch must finish before TorchServe's timeout kills the worker. Cheap requests run first; whatever is unfinished at
the deadline is rejected.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gradcam.admission import Admission
from gradcam.batch import AdmittedRequest, Augmentation, Batch, CompletedPass, Explained, Forward, Item
from gradcam.batch_explainer import BatchExplainer
from gradcam.engines import engine as engines
from gradcam.errors import RequestError, TooExpensive
from gradcam.explain.cam import GRADIENT_METHODS, Maps
from gradcam.explain.explainer import Explainer, ForwardPass, channel_passes
from gradcam.forward_passes import ScheduledPass, schedule, select_rows, unchanged_logits
from gradcam.images import decoding
from gradcam.images.geometry import CropGeometry
from gradcam.images.model_input import Normalization, PreparedInput, model_input, sample
from gradcam.images.nvjpeg import Decoder
from gradcam.layer_splits import LayerSplits
from gradcam.message import Request, Result, ServedModel
from gradcam.network.architecture import build
from gradcam.network.labels import Labels
from gradcam.network.logits import return_logits
from gradcam.network.weights import load_weights
from gradcam.options import Options
from gradcam.results import ResultBuilder
from gradcam.selection import Selection
from gradcam.settings import Settings, SettingsError

MAX_FORWARD = 32
LABELS_FILE = "index_to_name.json"
# The quantized graph, if the precision is int8.
GRAPH_FILE = "trunk.xml"
# TorchServe reads it too, and extracts it with the archive.
MANIFEST_FILE = Path("MAR-INF", "MANIFEST.json")


class Pipeline:
    """Answers requests; holds the model, and nothing of any request."""

    served: ServedModel
    """What answers call the model: names of its archive, or the architecture without one."""

    def __init__(  # noqa: PLR0913, PLR0917  each is independent of the others
        self,
        model: nn.Module,
        labels: Labels,
        settings: Settings,
        device: torch.device,
        max_forward: int = MAX_FORWARD,
        graph: Path | None = None,
    ) -> None:
        """Split a network at the model's layer.

        Args:
            model: the network, in eval mode, on `device`.
            labels: names of its classes.
            settings: of the model.
            device: of the network.
            max_forward: maximum images of one forward pass; more images take several passes.
            graph: the quantized graph of the network up to the layer, if the precision is int8.

        Raises:
            UnknownName: the network has no such layer.
            SplitError: the network cannot be split there.
            EngineError: the engine cannot run it, or the graph is damaged.
            SettingsError: the number of labels is wrong.
        """
        if len(labels.names) != settings.num_classes:
            raise SettingsError(f"Labels must be {settings.num_classes}, one per class, got {len(labels.names)}")
        self.network = model
        self.labels = labels
        self.settings = settings
        self.device = device
        self.max_forward = max_forward
        self.splits = LayerSplits(self.network, settings, graph)
        self.decoder = Decoder.load(settings, device) if settings.decoding == "fast" and device.type == "cuda" else None
        self.normalization = Normalization.of(settings)
        self.explainer = Explainer(settings.max_replay_bytes, max_forward)
        self.admission = Admission(settings, labels)
        self.served = ServedModel.of(settings.weights_sha256, settings.architecture)
        self.batch_explainer = BatchExplainer(self.explainer, Selection(settings, self.admission), settings)

    @classmethod
    def load(
        cls, folder: Path, weights_file: str, settings: Settings, device: torch.device, max_forward: int = MAX_FORWARD
    ) -> Pipeline:
        """Load an unpacked archive.

        Raises:
            NetworkError: weights, labels and architecture do not match, or a file is damaged.
            UnknownName, SplitError, SettingsError: as the constructor.
        """
        labels = Labels.read(folder / LABELS_FILE)
        model_file = folder / settings.model_file if settings.model_file else None
        network = build(settings.architecture, settings.num_logits, model_file)
        load_weights(network, folder / weights_file, settings.weights_sha256)
        network = return_logits(network, settings.logits, settings.class_scores)
        manifest = json.loads((folder / MANIFEST_FILE).read_text(encoding="utf-8"))["model"]
        graph = folder / GRAPH_FILE if settings.graph_sha256 else None
        pipeline = cls(network.to(device), labels, settings, device, max_forward, graph)
        pipeline.served = ServedModel.of(settings.weights_sha256, manifest["modelName"], manifest["modelVersion"])
        return pipeline

    def describe(self) -> dict[str, Any]:
        """Return what an auditor needs to reproduce a map, apart from package versions, in types of JSON."""
        parts = self.splits.default
        return {
            **self.settings.to_mapping(),
            "layers": [name for name, _ in self.network.named_modules() if name],
            "cut": parts.method,
            "effective_precision": parts.precision,
            "engine": parts.engine,
            "decoder": "pillow" if self.decoder is None else "nvjpeg",
            "labels": list(self.labels.names),
            "device": str(self.device),
        }

    def warm_up(self) -> None:
        """Answer batches, so that no client waits for work that is done only once."""
        image = sample(self.settings)
        # An expensive default method would take its time for every image.
        method = next((name for name in self.settings.methods if name in GRADIENT_METHODS), None)
        options = Options(overlay="jpeg", method=method) if method else Options(explain=0)
        for size in engines.warm_up_sizes(self.splits.default.engine, self.device, self.max_forward):
            self.answer([Request(image, options)] * size)

    def answer(self, requests: Sequence[Request | RequestError]) -> list[Result | RequestError]:
        """Take requests through all steps."""
        forward = self.inference(self.preprocess(requests))
        with torch.enable_grad():
            return self.results(self.explain(forward))

    # ------------------------------------------------------------------------- preprocess

    def preprocess(self, requests: Sequence[Request | RequestError]) -> Batch:
        """Check the requests and decode their images; a request that fails keeps its slot."""
        start = time.monotonic()
        # The network has the other half of the time.
        decoding_deadline = start + self.settings.max_batch_seconds / 2
        # Small images first, so that a slow one cannot starve the others.
        rows = sorted(range(len(requests)), key=lambda row: _decoding_cost(requests[row]))
        admitted = {row: self._admit(requests[row]) for row in rows}
        decoded = self._decode_on_gpu(admitted, decoding_deadline)
        items = {row: self._item(entry, decoded.get(row), decoding_deadline) for row, entry in admitted.items()}
        return Batch([items[row] for row in range(len(requests))], start + self.settings.max_batch_seconds)

    def _admit(self, request: Request | RequestError) -> AdmittedRequest | RequestError:
        if isinstance(request, RequestError):
            return request
        try:
            return self.admission.admit(request)
        except RequestError as error:
            return error

    def _decode_on_gpu(
        self, admitted: Mapping[int, AdmittedRequest | RequestError], deadline: float
    ) -> dict[int, PreparedInput]:
        """Decode what a GPU can, by row: images on which no overlay is drawn."""
        if self.decoder is None:
            return {}
        images = {
            row: entry.request.image
            for row, entry in admitted.items()
            if isinstance(entry, AdmittedRequest)
            and entry.request.encoding is None
            and isinstance(entry.request.image, bytes)
        }
        return self.decoder.decode(images, deadline)

    def _item(
        self, admitted: AdmittedRequest | RequestError, prepared: PreparedInput | None, deadline: float
    ) -> Item | RequestError:
        if isinstance(admitted, RequestError):
            return admitted
        try:
            if prepared is None and time.monotonic() > deadline:
                raise TooExpensive("Time limit for decoding the images of a batch exceeded; send fewer images at once")
            for layer in admitted.layers:
                self.splits.prepare(layer, deadline)
            if admitted.is_expensive:
                added = [channel_passes(self.splits[layer], admitted.method) for layer in admitted.layers]
                self.admission.check_channel_passes(admitted, added)
            return Item.of(admitted, prepared or self._decode(admitted.request))
        except RequestError as error:
            return error

    def _decode(self, request: Request) -> PreparedInput:
        decoded = decoding.decode(request.image, self.settings, full_resolution=request.encoding is not None)
        self.admission.check_overlays(request, decoded.width * decoded.height)
        geometry = CropGeometry.of(decoded.width, decoded.height, self.settings)
        prepared = model_input(decoded.image, geometry, self.settings.decoding)  # (3, H, W)
        return PreparedInput(geometry, prepared, None if request.encoding is None else decoded.image)

    # ------------------------------------------------------------------------- inference

    def inference(self, batch: Batch) -> Forward:
        """Run the network without gradients, and keep the activations at the split point."""
        items = batch.answerable
        if not items:
            return Forward(batch, [], {})
        passes: list[CompletedPass] = []
        timed_out: set[int] = set()
        with torch.inference_mode():
            pixels = self._pixels(items)
            for scheduled in schedule(items, self.max_forward):
                if passes and time.monotonic() > batch.deadline:
                    timed_out |= set(scheduled.rows)
                if rows := [row for row in scheduled.rows if row not in timed_out]:
                    forward = self._forward_pass(scheduled, [items[row] for row in rows], select_rows(pixels, rows))
                    passes.append(CompletedPass(rows, scheduled.augmentation, forward))
            logits = {row: values for row, values in unchanged_logits(passes).items() if row not in timed_out}
            return Forward(batch, passes, logits)

    def _pixels(self, items: list[Item]) -> Tensor:
        """Return the prepared inputs as one tensor (B, 3, H, W), uint8, in channels-last."""
        rows = [item.prepared.model_input.permute(1, 2, 0).to(self.device) for item in items]  # (H, W, 3) each
        return torch.stack(rows).permute(0, 3, 1, 2)  # (B, H, W, 3) → (B, 3, H, W)

    def _forward_pass(self, scheduled: ScheduledPass, items: list[Item], pixels: Tensor) -> ForwardPass:
        parts = self.splits[scheduled.layer]
        images = None
        if scheduled.augmentation == Augmentation() and not any(item.method == "scorecam" for item in items):
            features = parts.features_of_pixels(pixels, self.normalization)
        else:
            images = scheduled.augmentation.apply(self.normalization(pixels))
            features = parts.features(images)
        features = features.float()
        return ForwardPass(parts, images, features, parts.logits(features))

    # ------------------------------------------------------------------------- explain

    def explain(self, forward: Forward) -> Explained:
        """Compute the maps; gradients must be enabled."""
        return self.batch_explainer.explain(forward)

    # ------------------------------------------------------------------------- results

    def results(self, explained: Explained) -> list[Result | RequestError]:
        """Return the result or error of each request."""
        items, forward = explained.forward.batch.answerable, explained.forward
        results = iter(
            maps if isinstance(maps, RequestError) else self._result(item, forward.logits[row], targets, maps)
            for row, (item, targets, maps) in enumerate(zip(items, explained.targets, explained.maps, strict=True))
        )
        return [item if isinstance(item, RequestError) else next(results) for item in forward.batch.items]

    def _result(self, item: Item, logits: Tensor, targets: list[int], maps: Maps) -> Result | RequestError:
        try:
            return ResultBuilder(self.settings, self.labels, self.served).build(item, logits, targets, maps)
        except RequestError as error:
            return error


def _decoding_cost(request: Request | RequestError) -> tuple[int, int]:
    """Return the number of images in the request group, and the image's bytes."""
    return (0, 0) if isinstance(request, RequestError) else (request.images_in_request, len(request.image))
