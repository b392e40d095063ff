"""The steps of a request, for a batch in which any row may fail alone.

The three phases are TorchServe's: `preprocess` decodes, `inference` runs the network without gradients and
keeps the values at the cut, `postprocess` replays the head on them with gradients and renders.

Most batches take one pass through the network. Rows that ask for another layer take theirs through a network cut
there; a row that asks for several layers, or for smoothing, takes several passes, and its maps are fused.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from gradcam import cam, images, network, overlay
from gradcam.cam import METHODS
from gradcam.errors import InvalidOption, NumericalOverflow, RequestError, TooExpensive, UnknownName, unknown
from gradcam.explainer import Explainer, Pair, Pass
from gradcam.images import Region, View
from gradcam.network import Labels
from gradcam.settings import Settings, SettingsError
from gradcam.split import Split, SplitError, split
from gradcam.wire import Explanation, Options, Prediction, Request, Result

DEFAULT_TOPK = 5
LABELS_FILE = "index_to_name.json"


# ----------------------------------------------------------------------------- what travels between the phases


@dataclass(frozen=True)
class Augmentation:
    """A change of the model input that is undone on the map."""

    flip: bool = False
    """Left and right are exchanged."""
    factor: float = 1.0
    """The normalised input is multiplied by this."""

    def apply(self, normalized: Tensor) -> Tensor:
        """Returns the input (B, 3, H, W), changed."""
        changed = normalized if self.factor == 1 else normalized * self.factor
        return changed.flip(3) if self.flip else changed

    def undo(self, maps: Tensor) -> Tensor:
        """Returns the maps (N, h, w) as they lie on the unchanged input."""
        return maps.flip(2) if self.flip else maps


UNCHANGED = (Augmentation(),)
# Augmentation smoothing as users know it from pytorch-grad-cam's `aug_smooth`.
SMOOTHING = tuple(Augmentation(flip, factor) for factor in (1.0, 0.9, 1.1) for flip in (False, True))


@dataclass(frozen=True)
class Item:
    """A request that can be answered: its picture is decoded, its names are known."""

    request: Request
    targets: tuple[int, ...] | None
    """Indices of the classes to explain; None: the most probable ones."""
    method: str
    layers: tuple[str, ...]
    augmentations: tuple[Augmentation, ...]
    view: View
    model_input: Tensor
    """(3, H, W), uint8."""
    picture: Image.Image | None
    """Kept for the overlay, where one was asked for."""


@dataclass(frozen=True)
class Batch:
    """Items in the order of their rows, a `RequestError` in the slot of a row that failed."""

    items: list[Item | RequestError]

    @property
    def answerable(self) -> list[Item]:
        """The B items that did not fail."""
        return [item for item in self.items if isinstance(item, Item)]


@dataclass(frozen=True)
class Leg:
    """One pass, which some of the answerable items take."""

    rows: list[int]
    """Which items: indices into `Batch.answerable`."""
    augmentation: Augmentation
    forward: Pass


@dataclass(frozen=True)
class Forward:
    """A batch after its passes through the network."""

    batch: Batch
    legs: list[Leg]
    """Each item's first leg is the one that its prediction comes from."""


# ----------------------------------------------------------------------------- pipeline


class Pipeline:
    """Answers requests; holds the model and nothing of any request."""

    def __init__(self, model: nn.Module, labels: Labels, settings: Settings, device: torch.device) -> None:
        """Cuts a network that is on `device` already at the model's layer.

        Raises:
            UnknownName: the network has no such layer.
            SplitError: the network cannot be cut there.
            SettingsError: there is no such method, or a label is missing.
        """
        if settings.method not in METHODS:
            raise SettingsError(f"gradcam: 'method': {unknown('method', settings.method, METHODS)}")
        if len(labels.names) != settings.num_classes:
            raise SettingsError(f"there are {len(labels.names)} labels for {settings.num_classes} classes")
        # The layout that convolutions are fastest in, on CPUs and GPUs.
        self.network = model.to(memory_format=torch.channels_last)
        self.labels = labels
        self.settings = settings
        self.device = device
        self.splits = {settings.layer: split(model, settings.layer, settings.input_size)}
        self.explainer = Explainer(settings.max_replay_bytes)

    @classmethod
    def load(cls, folder: Path, weights_file: str, settings: Settings, device: torch.device) -> Pipeline:
        """Loads an unpacked archive.

        Raises:
            NetworkError: weights, labels and architecture do not go together, or a file is damaged.
            UnknownName, SplitError, SettingsError: as above.
        """
        labels = Labels.read(folder / LABELS_FILE)
        model_file = folder / settings.model_file if settings.model_file else None
        loaded = network.build(settings.architecture, settings.num_classes, model_file)
        network.load_weights(loaded, folder / weights_file, settings.weights_sha256)
        return cls(loaded.to(device), labels, settings, device)

    # ------------------------------------------------------------------------- preprocess

    def preprocess(self, requests: Sequence[Request | RequestError]) -> Batch:
        """Decodes the pictures; a request that fails keeps its slot."""
        return Batch([self._item(request) for request in requests])

    def _item(self, request: Request | RequestError) -> Item | RequestError:
        if isinstance(request, RequestError):
            return request
        options = request.options
        explains = options.targets is not None or options.explain > 0
        try:
            self._check(options)
            picture = images.decode(request.image, self.settings)
            view = View.of(picture.width, picture.height, self.settings)
            return Item(
                request=request,
                targets=None if options.targets is None else tuple(map(self.labels.index, options.targets)),
                method=options.method or self.settings.method,
                layers=tuple(self._split(layer).layer for layer in options.layer or (self.settings.layer,)),
                augmentations=SMOOTHING if options.smooth and explains else UNCHANGED,
                view=view,
                model_input=images.model_input(picture, view),
                picture=None if request.encoding is None else picture,
            )
        except RequestError as error:
            return error

    def _check(self, options: Options) -> None:
        """Checks the options against the model, before any work is done."""
        classes, most = self.settings.num_classes, self.settings.max_targets
        if options.topk is not None and options.topk > classes:
            raise InvalidOption(f"topk must be at most the number of classes, {classes}, not {options.topk}")
        if options.explain > classes:
            raise InvalidOption(f"explain must be at most the number of classes, {classes}, not {options.explain}")
        if max(options.explain, len(options.targets or ())) > most:
            raise InvalidOption(f"at most {most} classes can be explained in one request")
        if len(options.layer or ()) > self.settings.max_layers:
            raise InvalidOption(f"at most {self.settings.max_layers} layers can be fused in one request")
        if options.method is not None and options.method not in METHODS:
            raise UnknownName(unknown("method", options.method, METHODS), code="unknown_method")
        if options.colormap not in overlay.COLORMAPS:
            raise InvalidOption(unknown("colormap", options.colormap, overlay.COLORMAPS))

    def _split(self, layer: str) -> Split:
        """Returns the network cut at a layer that a request names; cuts it at the first request.

        Raises:
            UnknownName: there is no such layer, or the network cannot be explained there.
        """
        if layer not in self.splits:
            try:
                self.splits[layer] = split(self.network, layer, self.settings.input_size)
            except SplitError as error:
                raise UnknownName(str(error), code="unknown_layer") from error
        return self.splits[layer]

    # ------------------------------------------------------------------------- inference

    def inference(self, batch: Batch) -> Forward:
        """Runs the network without gradients; keeps the values at the cut."""
        items = batch.answerable
        if not items:
            return Forward(batch, [])
        inputs = torch.stack([item.model_input for item in items])  # (B, 3, H, W)
        with torch.inference_mode():
            inputs = inputs.to(self.device, non_blocking=True, memory_format=torch.channels_last)
            normalized = images.normalize(inputs, self.settings)
            return Forward(
                batch,
                [
                    Leg(rows, augmentation, self._pass(layer, augmentation.apply(_rows(normalized, rows))))
                    for (layer, augmentation), rows in _legs(items).items()
                ],
            )

    def _pass(self, layer: str, normalized: Tensor) -> Pass:
        parts = self.splits[layer]
        precision = getattr(torch, self.settings.precision)
        with torch.autocast(self.device.type, precision, enabled=precision != torch.float32):
            features = parts.features(normalized)
        features = features.float()
        return Pass(parts, normalized, features, parts.logits(features))

    # ------------------------------------------------------------------------- postprocess

    def postprocess(self, forward: Forward) -> list[Result | RequestError]:
        """Explains and renders; gradients must be enabled."""
        answers = iter(self._answers(forward.batch.answerable, forward.legs))
        return [item if isinstance(item, RequestError) else next(answers) for item in forward.batch.items]

    def _answers(self, items: list[Item], legs: list[Leg]) -> list[Result | RequestError]:
        logits = _logits(legs, len(items))
        targets = [_targets(item, row) for item, row in zip(items, logits, strict=True)]
        maps = self._maps(items, legs, targets)
        return list(map(self._result, items, logits, targets, maps))

    def _maps(self, items: list[Item], legs: list[Leg], targets: list[list[int]]) -> list[Tensor | RequestError]:
        """Returns each item's maps, (n, h, w) for its n targets."""
        parts: list[list[Tensor]] = [[] for _ in items]
        failed: dict[int, RequestError] = {}
        deadline = time.monotonic() + self.settings.max_scorecam_seconds
        for leg in legs:
            for rows in _together(leg.rows, items):
                pairs = [
                    Pair(leg.rows.index(row), target, items[row].method) for row in rows for target in targets[row]
                ]
                try:
                    maps = leg.augmentation.undo(self.explainer.maps(leg.forward, pairs, deadline))
                except TooExpensive as error:
                    failed |= dict.fromkeys(rows, error)
                    continue
                for row, part in zip(rows, maps.split_with_sizes([len(targets[row]) for row in rows]), strict=True):
                    parts[row].append(part)
        return [failed.get(row) or _fused(part) for row, part in enumerate(parts)]

    def _result(
        self, item: Item, logits: Tensor, targets: list[int], maps: Tensor | RequestError
    ) -> Result | RequestError:
        if isinstance(maps, RequestError):
            return maps
        probabilities = logits.softmax(dim=0)  # (K,)
        if not (probabilities.isfinite().all() and maps.isfinite().all()):
            return NumericalOverflow(
                f"the network's numbers overflow on this picture in {self.settings.precision}; "
                "serve it with a precision of wider range, bfloat16 or float32"
            )
        topk = item.request.options.topk or min(DEFAULT_TOPK, self.settings.num_classes)
        try:
            return Result(
                request=item.request,
                predictions=[self._prediction(index, probabilities) for index in _most_probable(logits, topk)],
                explanations=[
                    self._explanation(item, self._prediction(index, probabilities), heatmap, first=number == 0)
                    for number, (index, heatmap) in enumerate(zip(targets, maps.numpy(), strict=True))
                ],
                method=item.method,
                layers=item.layers,
                width=item.view.width,
                height=item.view.height,
                region=item.view.region,
            )
        except RequestError as error:
            return error

    def _prediction(self, index: int, probabilities: Tensor) -> Prediction:
        return Prediction(index, self.labels.names[index], float(probabilities[index]))

    def _explanation(
        self, item: Item, prediction: Prediction, heatmap: NDArray[np.float32], *, first: bool
    ) -> Explanation:
        drawn = None
        needed = first or item.request.accept is None
        if needed and item.picture is not None and item.request.encoding is not None:
            options, picture = item.request.options, np.asarray(item.picture)  # (H, W, 3)
            blended = overlay.draw(heatmap, picture, item.view.region, options.colormap, options.alpha)
            drawn = overlay.encode(blended, item.request.encoding)
        return Explanation(prediction, heatmap, _peak(heatmap, item.view.region), drawn)


# ----------------------------------------------------------------------------- rows


def _legs(items: list[Item]) -> dict[tuple[str, Augmentation], list[int]]:
    """Returns the passes that the items take, and the rows of each."""
    legs: dict[tuple[str, Augmentation], list[int]] = {}
    for row, item in enumerate(items):
        for layer in item.layers:
            for augmentation in item.augmentations:
                legs.setdefault((layer, augmentation), []).append(row)
    return legs


def _logits(legs: list[Leg], count: int) -> list[Tensor]:
    """Returns each item's logits (K,) on the CPU, from the first of its legs."""
    logits: dict[int, Tensor] = {}
    for leg in legs:
        rows = leg.forward.logits.cpu()
        for index, row in enumerate(leg.rows):
            logits.setdefault(row, rows[index])
    return [logits[row] for row in range(count)]


def _together(rows: list[int], items: list[Item]) -> list[list[int]]:
    """Returns the rows that are explained in one go; each of Score-CAM's alone, since it may run out of time."""
    alone = [[row] for row in rows if items[row].method == "scorecam"]
    others = [row for row in rows if items[row].method != "scorecam"]
    return [others, *alone] if others else alone


def _fused(parts: list[Tensor]) -> Tensor:
    """Returns the mean of an item's maps (n, h, w) of several passes."""
    return parts[0] if len(parts) == 1 or not len(parts[0]) else cam.fuse(parts)


def _rows(values: Tensor, rows: list[int]) -> Tensor:
    """Returns some rows, without a copy where they are all of them."""
    return values if len(rows) == len(values) else values[rows]


def _most_probable(logits: Tensor, count: int) -> list[int]:
    """Ranks by logits: the probabilities of many an unlikely class are the same in float32."""
    indices: list[int] = logits.topk(count).indices.tolist()
    return indices


def _targets(item: Item, logits: Tensor) -> list[int]:
    return _most_probable(logits, item.request.options.explain) if item.targets is None else list(item.targets)


def _peak(heatmap: NDArray[np.float32], region: Region) -> tuple[int, int] | None:
    """Returns x and y of the middle of the map's highest cell, in the picture; None for a map that is all 0."""
    if not heatmap.any():
        return None
    row, column = np.unravel_index(heatmap.argmax(), heatmap.shape)
    height, width = heatmap.shape
    return (
        region.left + int((column + 0.5) / width * (region.right - region.left)),
        region.top + int((row + 0.5) / height * (region.bottom - region.top)),
    )
