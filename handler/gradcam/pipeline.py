"""The steps of a request, for a batch in which any row may fail alone.

The three phases are TorchServe's: `preprocess` decodes, `inference` runs the network without gradients and
keeps the values at the cut, `postprocess` replays the head on them with gradients and renders.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from gradcam import cam, images, overlay
from gradcam.errors import InvalidOption, RequestError, UnknownName, near_names
from gradcam.images import Region, View
from gradcam.network import Labels
from gradcam.settings import Settings
from gradcam.split import Features, Split
from gradcam.wire import Explanation, Options, Prediction, Request, Result

DEFAULT_TOPK = 5


@dataclass(frozen=True)
class Item:
    """A request that can be answered: its picture is decoded, its names are known."""

    request: Request
    targets: tuple[int, ...] | None
    """Indices of the classes to explain; None: the most probable ones."""
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
class Output:
    """What the network made of the B answerable items."""

    features: Features
    logits: Tensor
    """(B, K)."""


@dataclass(frozen=True)
class Forward:
    """A batch after the forward pass."""

    batch: Batch
    output: Output | None
    """None where no item is answerable."""


class Pipeline:
    """Answers requests; holds the model and nothing of any request."""

    def __init__(self, split: Split, labels: Labels, settings: Settings, device: torch.device) -> None:
        """Keeps a network whose parts are on `device` already."""
        self.split = split
        self.labels = labels
        self.settings = settings
        self.device = device

    # ------------------------------------------------------------------------- preprocess

    def preprocess(self, requests: Sequence[Request | RequestError]) -> Batch:
        """Decodes the pictures; a request that fails keeps its slot."""
        return Batch([self._item(request) for request in requests])

    def _item(self, request: Request | RequestError) -> Item | RequestError:
        if isinstance(request, RequestError):
            return request
        try:
            targets = self._check(request.options)
            picture = images.decode(request.image, self.settings)
        except RequestError as error:
            return error
        view = View.of(picture.width, picture.height, self.settings)
        model_input = images.model_input(picture, view)
        return Item(request, targets, view, model_input, None if request.encoding is None else picture)

    def _check(self, options: Options) -> tuple[int, ...] | None:
        """Checks the options against the model, before any work is done; returns the targets' indices."""
        if options.topk is not None and options.topk > self.settings.num_classes:
            raise InvalidOption(f"topk must be at most the number of classes, {self.settings.num_classes}")
        if options.explain > self.settings.num_classes:
            raise InvalidOption(f"explain must be at most the number of classes, {self.settings.num_classes}")
        if max(options.explain, len(options.targets or ())) > self.settings.max_targets:
            raise InvalidOption(f"at most {self.settings.max_targets} classes can be explained in one request")
        if options.method is not None and options.method not in cam.METHODS:
            raise UnknownName(_unknown("method", options.method, list(cam.METHODS)), code="unknown_method")
        if options.layer is not None and options.layer != self.split.layer:
            raise UnknownName(_unknown("layer", options.layer, [self.split.layer]), code="unknown_layer")
        if options.colormap not in overlay.COLORMAPS:
            raise InvalidOption(_unknown("colormap", options.colormap, list(overlay.COLORMAPS)))
        return None if options.targets is None else tuple(map(self.labels.index, options.targets))

    # ------------------------------------------------------------------------- inference

    def inference(self, batch: Batch) -> Forward:
        """Runs the network without gradients; keeps the values at the cut."""
        if not batch.answerable:
            return Forward(batch, None)
        inputs = torch.stack([item.model_input for item in batch.answerable])  # (B, 3, H, W)
        with torch.inference_mode():
            normalized = images.normalize(inputs.to(self.device, non_blocking=True), self.settings)
            features = self.split.features(normalized)
            return Forward(batch, Output(features, self.split.logits(features)))

    # ------------------------------------------------------------------------- postprocess

    def postprocess(self, forward: Forward) -> list[Result | RequestError]:
        """Explains and renders; gradients must be enabled."""
        answers = iter(self._answers(forward.batch.answerable, forward.output) if forward.output else ())
        return [item if isinstance(item, RequestError) else next(answers) for item in forward.batch.items]

    def _answers(self, items: list[Item], output: Output) -> list[Result | RequestError]:
        probabilities = output.logits.float().softmax(dim=1).cpu()  # (B, K)
        targets = [_targets(item, row) for item, row in zip(items, probabilities, strict=True)]
        maps = self._maps(output.features, targets)
        return list(map(self._result, items, probabilities, targets, maps))

    def _maps(self, features: Features, targets: list[list[int]]) -> list[NDArray[np.float32]]:
        """Returns the maps (n, h, w) of each image's n targets."""
        pairs = [(row, target) for row, listed in enumerate(targets) for target in listed]
        chunks = [
            self._chunk(features, torch.tensor(pairs[start : start + self.settings.max_pairs], device=self.device))
            for start in range(0, len(pairs), self.settings.max_pairs)
        ]
        empty = torch.empty(0, *features.activations.shape[2:])
        maps = torch.cat(chunks) if chunks else empty  # (N, h, w)
        return [part.numpy() for part in maps.split_with_sizes([len(listed) for listed in targets])]

    def _chunk(self, features: Features, pairs: Tensor) -> Tensor:
        """Returns the maps (N, h, w) of pairs (N, 2) of row and class."""
        selected = features.rows(pairs[:, 0])
        gradients = self.split.gradients(selected, pairs[:, 1])  # (N, C, h, w)
        method = cam.METHODS[self.settings.method]
        return cam.normalize(method(selected.activations.float(), gradients.float())).cpu()

    def _result(
        self, item: Item, probabilities: Tensor, targets: list[int], maps: NDArray[np.float32]
    ) -> Result | RequestError:
        topk = item.request.options.topk or min(DEFAULT_TOPK, self.settings.num_classes)
        try:
            return Result(
                request=item.request,
                predictions=[self._prediction(index, probabilities) for index in _most_probable(probabilities, topk)],
                explanations=[
                    self._explanation(item, self._prediction(index, probabilities), heatmap)
                    for index, heatmap in zip(targets, maps, strict=True)
                ],
                method=self.settings.method,
                layer=self.split.layer,
                width=item.view.width,
                height=item.view.height,
                region=item.view.region,
            )
        except RequestError as error:
            return error

    def _prediction(self, index: int, probabilities: Tensor) -> Prediction:
        return Prediction(index, self.labels.names[index], float(probabilities[index]))

    def _explanation(self, item: Item, prediction: Prediction, heatmap: NDArray[np.float32]) -> Explanation:
        drawn = None
        if item.picture is not None and item.request.encoding is not None:
            options, picture = item.request.options, np.asarray(item.picture)  # (H, W, 3)
            blended = overlay.draw(heatmap, picture, item.view.region, options.colormap, options.alpha)
            drawn = overlay.encode(blended, item.request.encoding)
        return Explanation(prediction, heatmap, _peak(heatmap, item.view.region), drawn)


def _unknown(kind: str, name: str, known: list[str]) -> str:
    listed = ", ".join(known)
    return f"there is no {kind} {name!r}{near_names(name, known)} ({kind}s are {listed})"


def _most_probable(probabilities: Tensor, count: int) -> list[int]:
    indices: list[int] = probabilities.topk(count).indices.tolist()
    return indices


def _targets(item: Item, probabilities: Tensor) -> list[int]:
    return _most_probable(probabilities, item.request.options.explain) if item.targets is None else list(item.targets)


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
