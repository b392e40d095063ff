"""The steps of a request, for a batch in which any row may fail alone.

`preprocess` decodes, `inference` runs the network without gradients and keeps the values at the cut, `explain`
replays the head on them with gradients, `results` puts the answers together.

Most batches take one pass through the network. Rows that ask for another layer take theirs through a network cut
there; a row that asks for several layers, or for smoothing, takes several passes, and its maps are fused.

A batch has to end before TorchServe loses patience and ends the worker. So what costs little comes first, and what
is not done when the time is over is refused: a dear request costs its neighbours nothing but time.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gradcam.engines import engine as engines
from gradcam.errors import (
    InvalidOption,
    NumericalOverflow,
    RequestError,
    TooExpensive,
    TooLarge,
    TooMany,
    UnknownName,
    unknown_message,
)
from gradcam.explain import cam, overlay
from gradcam.explain.cam import METHODS
from gradcam.explain.explainer import Explainer, ForwardPass, Pair
from gradcam.images import decoding
from gradcam.images.geometry import CropGeometry, Region
from gradcam.images.model_input import PreparedInput, model_input, normalize, sample
from gradcam.images.nvjpeg import Decoder
from gradcam.message import Explanation, Prediction, Request, Result
from gradcam.network.architecture import build
from gradcam.network.labels import Labels
from gradcam.network.weights import load_weights
from gradcam.options import Options
from gradcam.settings import Settings, SettingsError
from gradcam.split.parts import Split, SplitError
from gradcam.split.splitter import split
from gradcam.split.verification import random_images

DEFAULT_TOPK = 5
MAX_FORWARD = 32
# Images that an engine proves itself on.
VERIFICATION_BATCH = 2
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
    seen: PreparedInput

    @property
    def passes(self) -> int:
        """How often the network runs for it."""
        return len(self.layers) * len(self.augmentations)

    @property
    def cost(self) -> int:
        """What its message asks of the network, roughly: passes, times the classes that are explained in each."""
        return self.request.images_in_request * self.passes * max(1, _explained(self.request.options))


@dataclass(frozen=True)
class Batch:
    """Items in the order of their rows, a `RequestError` in the slot of a row that failed."""

    items: list[Item | RequestError]
    deadline: float
    """When the batch has to be done, on the clock `time.monotonic`."""

    @property
    def answerable(self) -> list[Item]:
        """The B items that did not fail."""
        return [item for item in self.items if isinstance(item, Item)]


@dataclass(frozen=True)
class ScheduledPass:
    """One pass, which some of the answerable items take."""

    rows: list[int]
    """Which items: indices into `Batch.answerable`."""
    augmentation: Augmentation
    forward: ForwardPass


@dataclass(frozen=True)
class Forward:
    """A batch after its passes through the network."""

    batch: Batch
    legs: list[ScheduledPass]
    logits: dict[int, Tensor]
    """Of each item that took its legs, (K,), on the CPU."""


@dataclass(frozen=True)
class Explained:
    """A batch with its maps."""

    forward: Forward
    targets: list[list[int]]
    """The n classes of each item that are explained."""
    maps: list[Tensor | RequestError]
    """Of each item, (n, h, w), on the CPU."""


# ----------------------------------------------------------------------------- pipeline


class Pipeline:
    """Answers requests; holds the model and nothing of any request."""

    def __init__(
        self,
        model: nn.Module,
        labels: Labels,
        settings: Settings,
        device: torch.device,
        max_forward: int = MAX_FORWARD,
    ) -> None:
        """Cuts a network that is on `device` already at the model's layer.

        Args:
            model: the network, in eval mode.
            labels: names of its classes.
            settings: of the model.
            device: that the network is on.
            max_forward: the most pictures of one pass through the network; more take several.

        Raises:
            UnknownName: the network has no such layer.
            SplitError: the network cannot be cut there.
            SettingsError: there is no such method, or a label is missing.
        """
        if settings.method not in METHODS:
            raise SettingsError(f"gradcam: 'method': {unknown_message('method', settings.method, METHODS)}")
        if len(labels.names) != settings.num_classes:
            raise SettingsError(f"there are {len(labels.names)} labels for {settings.num_classes} classes")
        # The layout that convolutions are fastest in, on CPUs and GPUs.
        self.network = model.to(memory_format=torch.channels_last)
        self.labels = labels
        self.settings = settings
        self.device = device
        self.max_forward = max_forward
        self.splits = {
            settings.layer: engines.accelerate(
                split(self.network, settings.layer, settings.input_size),
                settings.engine,
                settings.precision,
                random_images(self.network, settings.input_size, VERIFICATION_BATCH),
            )
        }
        self.unsplittable_layers: dict[str, str] = {}
        self.decoder = Decoder.load(settings, device) if settings.decoding == "fast" and device.type == "cuda" else None
        self.explainer = Explainer(settings.max_replay_bytes)

    @classmethod
    def load(
        cls, folder: Path, weights_file: str, settings: Settings, device: torch.device, max_forward: int = MAX_FORWARD
    ) -> Pipeline:
        """Loads an unpacked archive.

        Raises:
            NetworkError: weights, labels and architecture do not go together, or a file is damaged.
            UnknownName, SplitError, SettingsError: as above.
        """
        labels = Labels.read(folder / LABELS_FILE)
        model_file = folder / settings.model_file if settings.model_file else None
        loaded = build(settings.architecture, settings.num_classes, model_file)
        load_weights(loaded, folder / weights_file, settings.weights_sha256)
        return cls(loaded.to(device), labels, settings, device, max_forward)

    def warm_up(self) -> None:
        """Answers batches, so that no client waits for what is done the first time only."""
        picture = sample(self.settings)
        for count in self._warming():
            self.answer([Request(picture, Options(overlay="jpeg"))] * count)

    def _warming(self) -> list[int]:
        """Returns the sizes of the batches to warm up with."""
        if self.device.type == "cpu" or self.splits[self.settings.layer].engine != "compile":
            return [1, self.max_forward]
        # Those of a size are recorded as a CUDA graph when they come the second time.
        return [size for size in range(1, self.max_forward + 1) for _ in range(2)]

    def answer(self, requests: Sequence[Request | RequestError]) -> list[Result | RequestError]:
        """Takes requests through all of the steps."""
        forward = self.inference(self.preprocess(requests))
        with torch.enable_grad():
            return self.results(self.explain(forward))

    # ------------------------------------------------------------------------- preprocess

    def preprocess(self, requests: Sequence[Request | RequestError]) -> Batch:
        """Decodes the pictures; a request that fails keeps its slot."""
        start = time.monotonic()
        # The other half of the time is the network's.
        decoded_until = start + self.settings.max_batch_seconds / 2
        # Small ones first: who sends a picture that takes for ever may lose time, its neighbours may not.
        by_weight = dict(sorted(enumerate(requests), key=lambda entry: _weight(entry[1])))
        seen = self._seen_by_gpu(by_weight, decoded_until)
        items = {row: self._item(request, seen.get(row), decoded_until) for row, request in by_weight.items()}
        return Batch([items[row] for row in range(len(requests))], start + self.settings.max_batch_seconds)

    def _seen_by_gpu(self, requests: Mapping[int, Request | RequestError], until: float) -> dict[int, PreparedInput]:
        """Decodes what a GPU can, by row: pictures that no overlay is drawn on."""
        if self.decoder is None:
            return {}
        pictures = {
            row: request.image
            for row, request in requests.items()
            if isinstance(request, Request) and request.encoding is None and self._is_acceptable(request)
        }
        return self.decoder.decode(pictures, until)

    def _is_acceptable(self, request: Request) -> bool:
        try:
            self._check(request.options, request.images_in_request)
        except RequestError:
            return False
        return True

    def _item(
        self, request: Request | RequestError, seen: PreparedInput | None, decoded_until: float
    ) -> Item | RequestError:
        if isinstance(request, RequestError):
            return request
        options = request.options
        try:
            if seen is None and time.monotonic() > decoded_until:
                raise TooExpensive("the pictures of this batch take too long to decode; send fewer at once")
            self._check(options, request.images_in_request)
            layers = tuple(
                self._split(layer, decoded_until).layer
                for layer in dict.fromkeys(options.layer or (self.settings.layer,))
            )
            augmentations = SMOOTHING if options.smooth and _explained(options) else UNCHANGED
            self._check_passes(request.images_in_request, len(layers), len(augmentations))
            targets = None if options.targets is None else tuple(map(self.labels.index, options.targets))
            return Item(
                request=request,
                targets=targets,
                method=options.method or self.settings.method,
                layers=layers,
                augmentations=augmentations,
                seen=seen or self._seen(request),
            )
        except RequestError as error:
            return error

    def _seen(self, request: Request) -> PreparedInput:
        picture = decoding.decode(request.image, self.settings, full_resolution=request.encoding is not None)
        self._check_overlays(request, picture.width * picture.height)
        view = CropGeometry.of(picture.width, picture.height, self.settings)
        prepared = model_input(picture.image, view, self.settings.decoding)  # (3, H, W)
        return PreparedInput(view, prepared, None if request.encoding is None else picture.image)

    def _check(self, options: Options, images_in_request: int) -> None:
        """Checks the options against the model, before any work is done."""
        classes, most = self.settings.num_classes, self.settings.max_targets
        if options.topk is not None and options.topk > classes:
            raise InvalidOption(f"topk must be at most the number of classes, {classes}, not {options.topk}")
        if options.explain > classes:
            raise InvalidOption(f"explain must be at most the number of classes, {classes}, not {options.explain}")
        if (asked := _explained(options) * images_in_request) > most:
            raise TooMany(
                f"at most {most} classes can be explained in one request, over all of its pictures, not {asked}",
                "too_many_targets",
            )
        if options.method is not None and options.method not in METHODS:
            raise UnknownName(unknown_message("method", options.method, METHODS), code="unknown_method")
        if options.colormap not in overlay.COLORMAPS:
            raise InvalidOption(unknown_message("colormap", options.colormap, overlay.COLORMAPS))

    def _check_passes(self, images_in_request: int, layers: int, augmentations: int) -> None:
        passes, most = images_in_request * layers * augmentations, self.settings.max_passes
        if passes > most:
            raise TooMany(
                f"{images_in_request} pictures × {layers} layers × {augmentations} versions of a picture are {passes} forward "
                f"passes, the limit of one request is {most}",
                "too_many_passes",
            )

    def _check_overlays(self, request: Request, pixels: int) -> None:
        if request.encoding is None:
            return
        drawn = request.images_in_request * (1 if request.accept else _explained(request.options))
        if drawn * pixels > self.settings.max_overlay_pixels:
            raise TooLarge(
                f"{drawn} overlays of {pixels:,} pixels are too much for one request, the limit is "
                f"{self.settings.max_overlay_pixels:,} pixels; send a smaller picture, or ask for fewer or no overlays",
                "overlay_too_large",
            )

    def _split(self, layer: str, until: float) -> Split:
        """Returns the network cut at a layer that a request names; cuts it at the first request.

        Raises:
            UnknownName: there is no such layer, or the network cannot be explained there.
            TooExpensive: it is the first request for the layer, and the time is over.
        """
        if layer in self.unsplittable_layers:
            raise UnknownName(self.unsplittable_layers[layer], code="unknown_layer")
        if layer not in self.splits:
            if time.monotonic() > until:
                raise TooExpensive("too many layers of this batch are asked for the first time; ask again")
            try:
                parts = split(self.network, layer, self.settings.input_size)
                self.splits[layer] = replace(parts, trunk=engines.in_precision(parts.trunk, self.settings.precision))
            except SplitError as error:
                self.unsplittable_layers[layer] = str(error)
                raise UnknownName(str(error), code="unknown_layer") from error
        return self.splits[layer]

    # ------------------------------------------------------------------------- inference

    def inference(self, batch: Batch) -> Forward:
        """Runs the network without gradients; keeps the values at the cut."""
        items = batch.answerable
        if not items:
            return Forward(batch, [], {})
        legs: list[ScheduledPass] = []
        late: set[int] = set()
        with torch.inference_mode():
            normalized = self._normalized(items)
            for layer, augmentation, rows in _legs(items, self.max_forward):
                if legs and time.monotonic() > batch.deadline:
                    late |= set(rows)
                if taking := [row for row in rows if row not in late]:
                    inputs = augmentation.apply(_rows(normalized, taking))
                    legs.append(ScheduledPass(taking, augmentation, self._pass(layer, inputs)))
            return Forward(batch, legs, {row: logits for row, logits in _logits(legs).items() if row not in late})

    def _normalized(self, items: list[Item]) -> Tensor:
        inputs = torch.stack([item.seen.model_input.to(self.device) for item in items])  # (B, 3, H, W)
        return normalize(inputs.to(memory_format=torch.channels_last), self.settings)

    def _pass(self, layer: str, normalized: Tensor) -> ForwardPass:
        parts = self.splits[layer]
        features = parts.features(normalized).float()
        return ForwardPass(parts, normalized, features, parts.logits(features))

    # ------------------------------------------------------------------------- explain

    def explain(self, forward: Forward) -> Explained:
        """Makes the maps; gradients must be enabled."""
        items = forward.batch.answerable
        targets = [
            _targets(item, forward.logits[row]) if row in forward.logits else [] for row, item in enumerate(items)
        ]
        parts: list[list[Tensor]] = [[] for _ in items]
        late = set(range(len(items))) - forward.logits.keys()
        for leg, rows in _jobs(forward.legs, items):
            counts = [len(targets[row]) for row in rows]
            pairs = [Pair(leg.rows.index(row), target, items[row].method) for row in rows for target in targets[row]]
            maps, missing = self.explainer.maps(leg.forward, pairs, forward.batch.deadline)
            owners = [row for row, count in zip(rows, counts, strict=True) for _ in range(count)]
            late |= {owners[index] for index in missing}
            for row, part in zip(rows, leg.augmentation.undo(maps).split_with_sizes(counts), strict=True):
                parts[row].append(part)
        made: list[Tensor | RequestError] = [
            self._too_expensive(items[row]) if row in late else _fused(part) for row, part in enumerate(parts)
        ]
        return Explained(forward, targets, made)

    def _too_expensive(self, item: Item) -> TooExpensive:
        return TooExpensive(
            f"{item.method} at {', '.join(item.layers)} was not done in the {self.settings.max_batch_seconds:g} s that "
            "a batch may take; ask for fewer classes, a later layer, or a cheaper method, as gradcam is"
        )

    # ------------------------------------------------------------------------- results

    def results(self, explained: Explained) -> list[Result | RequestError]:
        """Returns what becomes of each request: predictions, explanations, overlays."""
        items, forward = explained.forward.batch.answerable, explained.forward
        answers = iter(
            maps if isinstance(maps, RequestError) else self._result(item, forward.logits[row], targets, maps)
            for row, (item, targets, maps) in enumerate(zip(items, explained.targets, explained.maps, strict=True))
        )
        return [item if isinstance(item, RequestError) else next(answers) for item in forward.batch.items]

    def _result(self, item: Item, logits: Tensor, targets: list[int], maps: Tensor) -> Result | RequestError:
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
                width=item.seen.geometry.width,
                height=item.seen.geometry.height,
                region=item.seen.geometry.region,
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
        if needed and item.seen.image is not None and item.request.encoding is not None:
            options, picture = item.request.options, np.asarray(item.seen.image)  # (H, W, 3)
            blended = overlay.draw(heatmap, picture, item.seen.geometry.region, options.colormap, options.alpha)
            drawn = overlay.encode(blended, item.request.encoding)
        return Explanation(prediction, heatmap, _peak(heatmap, item.seen.geometry.region), drawn)


# ----------------------------------------------------------------------------- rows


def _weight(request: Request | RequestError) -> tuple[int, int]:
    """Returns how many pictures came with this one, and its bytes."""
    return (0, 0) if isinstance(request, RequestError) else (request.images_in_request, len(request.image))


def _explained(options: Options) -> int:
    """Returns how many classes are to be explained."""
    return options.explain if options.targets is None else len(options.targets)


def _legs(items: list[Item], most: int) -> list[tuple[str, Augmentation, list[int]]]:
    """Returns the passes that the items take, each with a layer and the rows, at most so many; the cheapest first."""
    together: dict[tuple[str, Augmentation], list[int]] = {}
    for row in _cheapest_first(range(len(items)), items):
        for layer in items[row].layers:
            for augmentation in items[row].augmentations:
                together.setdefault((layer, augmentation), []).append(row)
    legs = [
        (layer, augmentation, sorted(rows[start : start + most]))
        for (layer, augmentation), rows in together.items()
        for start in range(0, len(rows), most)
    ]
    return sorted(legs, key=lambda leg: min(items[row].cost for row in leg[2]))


def _logits(legs: list[ScheduledPass]) -> dict[int, Tensor]:
    """Returns each item's logits (K,) on the CPU, for the picture as it is."""
    logits: dict[int, Tensor] = {}
    for leg in legs:
        if leg.augmentation == Augmentation():
            logits |= dict(zip(leg.rows, leg.forward.logits.cpu(), strict=True))
    return logits


def _jobs(legs: list[ScheduledPass], items: list[Item]) -> Iterator[tuple[ScheduledPass, list[int]]]:
    """Yields the legs with the rows that are explained in one go, what one replay of the head does before the rest."""
    for by_gradients in (True, False):
        for leg in legs:
            rows = [row for row in leg.rows if (items[row].method in cam.GRADIENT_METHODS) == by_gradients]
            if rows:
                yield leg, _cheapest_first(rows, items)


def _cheapest_first(rows: Sequence[int], items: list[Item]) -> list[int]:
    return sorted(rows, key=lambda row: items[row].cost)


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
