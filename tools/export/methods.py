"""Which methods a graph can hold."""

from __future__ import annotations

from gradcam.errors import unknown_message
from gradcam.explain.cam import GRADIENT_METHODS, METHODS

# Reasons why the formula of a method cannot be written in the operators of ONNX and OpenVINO.
NOT_EXPORTED = {
    "eigencam": "needs a singular value decomposition, which ONNX and OpenVINO lack",
    "eigengradcam": "needs a singular value decomposition, which ONNX and OpenVINO lack",
    "ablationcam": "runs the network's head once for each channel of the layer",
    "scorecam": "runs the whole network once for each channel of the layer",
}
EXPORTED = tuple(name for name in GRADIENT_METHODS if name not in NOT_EXPORTED)


class ExportError(Exception):
    """A model that cannot be exported, for the reason in the message."""


def check_method(name: str) -> None:
    """Check that a graph can hold the method.

    Raises:
        ExportError: it cannot; the message says why, and names the methods that can be exported.
    """
    if name not in METHODS:
        raise ExportError(unknown_message("method", name, EXPORTED))
    if name in NOT_EXPORTED:
        raise ExportError(
            f"Method {name!r} cannot be exported: it {NOT_EXPORTED[name]}; valid are {', '.join(EXPORTED)}"
        )
