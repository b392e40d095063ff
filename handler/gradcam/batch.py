"""A batch on its way through the pipeline: what each phase hands to the next."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from gradcam.errors import RequestError
from gradcam.explain.cam import CHANNEL_METHODS, Maps
from gradcam.explain.explainer import ForwardPass
from gradcam.images.model_input import PreparedInput
from gradcam.message import Request


@dataclass(frozen=True)
class Augmentation:
    """A change of the model input that is undone on the map."""

    flip: bool = False
    """Whether left and right are exchanged."""
    factor: float = 1.0
    """Factor of the normalized input."""

    def apply(self, normalized: Tensor) -> Tensor:
        """Return the changed input (B, 3, H, W)."""
        changed = normalized if self.factor == 1 else normalized * self.factor
        return changed.flip(3) if self.flip else changed

    def undo(self, maps: Tensor) -> Tensor:
        """Return the maps (N, h, w) of the changed input as maps of the unchanged one."""
        return maps.flip(2) if self.flip else maps


UNCHANGED = (Augmentation(),)
# pytorch-grad-cam's `aug_smooth`.
SMOOTHING = tuple(Augmentation(flip, factor) for factor in (1.0, 0.9, 1.1) for flip in (False, True))


@dataclass(frozen=True)
class AdmittedRequest:
    """A request whose options are valid for the model, with the model's defaults filled in."""

    request: Request
    targets: tuple[int, ...] | None
    """Indices of the classes to explain; None: the most probable ones."""
    method: str
    layers: tuple[str, ...]
    augmentations: tuple[Augmentation, ...]
    versus: int | None = field(default=None, kw_only=True)
    """Index of the class that each explained class is contrasted with; None: none."""

    @property
    def passes(self) -> int:
        """Number of forward passes of this image."""
        return len(self.layers) * len(self.augmentations)

    @property
    def is_expensive(self) -> bool:
        """Whether it is explained with a method that runs parts of the network for each channel of the layer."""
        return self.method in CHANNEL_METHODS and self.request.options.explained_classes > 0

    @property
    def cost(self) -> int:
        """Approximate cost of its request group: forward passes times the classes that each explains."""
        return self.request.images_in_request * self.passes * max(1, self.request.options.explained_classes)


@dataclass(frozen=True)
class Item(AdmittedRequest):
    """An admitted request whose image is decoded."""

    prepared: PreparedInput

    @classmethod
    def of(cls, admitted: AdmittedRequest, prepared: PreparedInput) -> Item:
        """Combine an admitted request with its decoded image."""
        return cls(
            admitted.request,
            admitted.targets,
            admitted.method,
            admitted.layers,
            admitted.augmentations,
            prepared,
            versus=admitted.versus,
        )


@dataclass(frozen=True)
class Batch:
    """Items in the order of their requests; a request that failed has a `RequestError` in its slot."""

    items: list[Item | RequestError]
    deadline: float
    """Time limit of the batch, on the clock `time.monotonic`."""

    @property
    def answerable(self) -> list[Item]:
        """The B items that did not fail."""
        return [item for item in self.items if isinstance(item, Item)]


@dataclass(frozen=True)
class CompletedPass:
    """A forward pass of some of the answerable items."""

    rows: list[int]
    """Indices into `Batch.answerable`."""
    augmentation: Augmentation
    forward: ForwardPass


@dataclass(frozen=True)
class Forward:
    """A batch after its forward passes."""

    batch: Batch
    passes: list[CompletedPass]
    logits: dict[int, Tensor]
    """By row, the logits (K,) of each item that completed its passes, on the CPU."""


@dataclass(frozen=True)
class Explained:
    """A batch with its maps."""

    forward: Forward
    targets: list[list[int]]
    """The n explained classes of each item."""
    maps: list[Maps | RequestError]
    """The n maps of each item, on the CPU."""
