"""Checks of a request against the model, before any expensive work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NoReturn

from gradcam.batch import SMOOTHING, UNCHANGED, AdmittedRequest
from gradcam.errors import InvalidOption, TooLarge, TooMany, UnknownName, truncated_repr, unknown_message
from gradcam.explain.cam import CONTRASTING_METHODS, METHODS
from gradcam.explain.overlay import COLORMAPS
from gradcam.message import Request
from gradcam.network.labels import Labels
from gradcam.options import Options, SplitTargets
from gradcam.settings import Settings


@dataclass(frozen=True)
class Admission:
    """The settings and labels that requests are checked against."""

    settings: Settings
    labels: Labels

    def admit(self, request: Request) -> AdmittedRequest:
        """Check a request's options, and fill in the model's defaults.

        Whether the network can be explained at the layers is known only when it is split there.

        Raises:
            InvalidOption: an option has a value that this model does not support.
            TooMany: more classes or forward passes than the settings allow.
            UnknownName: the model has no such class or method, or does not allow the method.
        """
        request = self._with_whole_label(self._with_default_number(request))
        options = request.options
        if request.accept and options.explained_classes == 0:
            raise InvalidOption("explain must be at least 1 if 'Accept' requests an image, got 0; request JSON instead")
        self._check_counts(options, request.images_in_request)
        if options.method is not None:
            self._check_method(options.method)
        if options.colormap not in COLORMAPS:
            raise InvalidOption(unknown_message("colormap", options.colormap, COLORMAPS))
        method = options.method or self.settings.method
        targets = None if options.targets is None else tuple(map(self.labels.index, options.targets))
        admitted = AdmittedRequest(
            request=request,
            targets=targets,
            method=method,
            layers=tuple(dict.fromkeys(options.layer or (self.settings.layer,))),
            augmentations=SMOOTHING if options.smooth and options.explained_classes else UNCHANGED,
            versus=None if options.versus is None else self._versus(options.versus, targets, method),
        )
        if (passes := request.images_in_request * admitted.passes) > self.settings.max_passes:
            self._reject_passes(admitted, passes, f"{len(admitted.layers)} layers")
        return admitted

    def check_channel_passes(self, admitted: AdmittedRequest, channel_passes: Sequence[int]) -> None:
        """Check the forward passes of an expensive request, once the network is split at its layers.

        Args:
            admitted: the request.
            channel_passes: forward passes that its method adds at each of its layers.

        Raises:
            TooMany: more forward passes than the settings allow.
        """
        per_version = sum(1 + added for added in channel_passes)
        passes = admitted.request.images_in_request * len(admitted.augmentations) * per_version
        if passes > self.settings.max_passes:
            self._reject_passes(admitted, passes, f"{per_version} passes of {admitted.method} over all channels")

    def check_overlays(self, request: Request, pixels: int, classes: int | None = None) -> None:
        """Check the overlays of a request group, once its image's size is known.

        Args:
            request: one of the group.
            pixels: of its image.
            classes: number of explained classes, if a threshold decides it; None: as the options say.

        Raises:
            TooLarge: the overlays have more pixels than the settings allow.
        """
        if request.encoding is None:
            return
        explained = request.options.explained_classes if classes is None else classes
        count = request.images_in_request * (1 if request.accept else explained)
        if count * pixels > self.settings.max_overlay_pixels:
            raise TooLarge(
                f"Overlays of one request must have at most {self.settings.max_overlay_pixels:,} pixels in total, got "
                f"{count} overlays of {pixels:,} pixels; send a smaller image, or request fewer or no overlays",
                "overlay_too_large",
            )

    def _with_whole_label(self, request: Request) -> Request:
        """Return the request for one class if its comma-separated targets are together the label of that class.

        curl's `-F` removes the quotes that would protect the comma in a label.
        """
        targets = request.options.targets
        if not isinstance(targets, SplitTargets) or not self.labels.has(targets.text):
            return request
        return replace(request, options=replace(request.options, targets=(targets.text,)))

    def _with_default_number(self, request: Request) -> Request:
        """Return the request with the model's number of explained classes, if it states neither number nor classes."""
        options = request.options
        if any(chosen is not None for chosen in (options.explain, options.targets, options.threshold)):
            return request
        return replace(request, options=replace(request.options, explain=self.settings.explain))

    def _versus(self, versus: int | str, targets: tuple[int, ...] | None, method: str) -> int:
        """Return the index of the class that the explained classes are contrasted with."""
        if method not in CONTRASTING_METHODS:
            reason = (
                "finercam already contrasts the class with similar ones"
                if method == "finercam"
                else f"{method} has no score to differentiate"
            )
            raise InvalidOption(
                f"versus needs the gradient of a difference of two scores, got method {method!r}; {reason}; "
                f"valid methods: {', '.join(CONTRASTING_METHODS)}"
            )
        index = self.labels.index(versus)
        if targets is not None and index in targets:
            raise InvalidOption(
                f"versus must differ from each explained class, got {index} ({self.labels.names[index]!r}) as both"
            )
        return index

    def _check_counts(self, options: Options, images_in_request: int) -> None:
        classes, max_targets = self.settings.num_classes, self.settings.max_targets
        if options.topk is not None and options.topk > classes:
            raise InvalidOption(f"topk must be between 1 and {classes}, got {truncated_repr(options.topk)}")
        # The class of `versus` is not explained.
        most = classes if options.versus is None else classes - 1
        if (options.explain or 0) > most:
            raise InvalidOption(f"explain must be between 0 and {most}, got {truncated_repr(options.explain)}")
        if (explained := options.explained_classes * images_in_request) > max_targets:
            raise TooMany(
                f"Explained classes of one request must be at most {max_targets}, summed over its images, "
                f"got {explained}",
                "too_many_targets",
            )

    def _check_method(self, method: str) -> None:
        allowed = self.settings.methods
        if method not in METHODS:
            raise UnknownName(unknown_message("method", method, allowed), code="unknown_method")
        if method not in allowed:
            raise UnknownName(
                f"Method {method!r} is not allowed by this model (allowed: {', '.join(allowed)}); "
                "its operator can add it to the setting 'methods'",
                code="method_not_allowed",
            )

    def _reject_passes(self, admitted: AdmittedRequest, passes: int, of_each_version: str) -> NoReturn:
        raise TooMany(
            f"Forward passes of one request must be at most {self.settings.max_passes}, got {passes} "
            f"({admitted.request.images_in_request} images × {of_each_version} × "
            f"{len(admitted.augmentations)} smoothed versions); the setting 'max_passes' is the limit",
            "too_many_passes",
        )
