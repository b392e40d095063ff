"""Verification of a split against the network, on random images."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from gradcam.split.parts import Split, SplitError


def verify(parts: Split, images: Tensor, activations: Tensor, logits: Tensor) -> None:
    """Check that the parts compute what the network computes, that images do not mix, and that gradients exist.

    Args:
        parts: the split.
        images: random images, (B, 3, H, W).
        activations: the network's own output of the target layer, (B, …).
        logits: the network's own logits, (B, K).

    Raises:
        SplitError: a check failed. A network that mixes images cannot be served in batches, either.
    """
    with torch.no_grad():
        features = parts.features(images)
        pairs = {"activations": (features.activations, activations), "logits": (parts.logits(features), logits)}
        for row, expected in enumerate(logits):
            index = torch.tensor([row], device=images.device)
            pairs["logits of one row of a batch"] = (parts.logits(features.rows(index))[0], expected)
            pairs["logits of a single image"] = (parts.logits(parts.features(images[index]))[0], expected)
            for name, (ours, theirs) in pairs.items():
                _check_equal(ours, theirs, parts.layer, name)
    try:
        with torch.enable_grad():
            gradients = parts.gradients(features, lambda logits: logits.amax(dim=1))
    except RuntimeError as error:
        raise SplitError(f"Cannot explain {parts.layer!r}: no gradient reaches it: {error}") from error
    if not gradients.isfinite().all():
        raise SplitError(f"Cannot explain {parts.layer!r}: its gradients are not finite")


def _check_equal(ours: Tensor, theirs: Tensor, layer: str, name: str) -> None:
    if not theirs.isfinite().all():
        raise SplitError(f"Cannot split at {layer!r}: the network's own {name} are not finite")
    if not torch.allclose(ours, theirs, rtol=1e-3, atol=1e-4 * float(theirs.abs().max())):
        raise SplitError(f"Cannot split at {layer!r}: trunk and head do not reproduce the network's {name}")


def random_pixels(input_size: tuple[int, int], count: int, device: torch.device) -> Tensor:
    """Return seeded pixels (count, 3, H, W), uint8: colored areas under noise, in the range of images."""
    generator = torch.Generator().manual_seed(0)
    areas = torch.rand(count, 3, 6, 6, generator=generator)  # (count, 3, 6, 6)
    smooth = functional.interpolate(areas, input_size, mode="bilinear")  # (count, 3, H, W)
    noise = torch.rand(count, 3, *input_size, generator=generator)  # (count, 3, H, W)
    return (smooth * 200 + noise * 55).to(torch.uint8).to(device)


def random_images(network: nn.Module, input_size: tuple[int, int], count: int) -> Tensor:
    """Return seeded random images (count, 3, H, W) on the network's device."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(count, 3, *input_size, generator=generator)  # (count, 3, H, W)
    return images.to(next(network.parameters()).device)
