"""Every engine reproduces the network's activations, maps, and classes, for batches of any size."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from gradcam.engines.engine import ENGINES, Accelerated, EngineError, Examples, accelerate
from gradcam.explain import cam
from gradcam.explain.explainer import Explainer, ForwardPass, Pair
from gradcam.images.model_input import Normalization
from gradcam.network.architecture import build
from gradcam.network.target_layer import default_layer
from gradcam.settings import Engine, Precision
from gradcam.split.parts import Split, Trunk
from gradcam.split.splitter import split
from gradcam.split.verification import random_images, random_pixels
from tests.support import oracles

SIZE = (64, 64)
CLASSES = 10
LAYER = "layer4.1.conv2"
NORMALIZATION = Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def seeded(architecture: str) -> nn.Module:
    return oracles.seeded(build(architecture, CLASSES), seed=5)


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return seeded("resnet18")


@pytest.fixture(scope="module")
def parts(model: nn.Module) -> Split:
    return split(model, LAYER, SIZE)


@pytest.fixture(scope="module")
def images(model: nn.Module) -> Tensor:
    return random_images(model, SIZE, 5)


def run(parts: Split, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return logits and the maps of two classes per image."""
    with torch.inference_mode():
        features = parts.features(images).float()
        forward = ForwardPass(parts, images, features, parts.logits(features))
    pairs = [Pair(row, target, "gradcam") for row in range(len(images)) for target in (1, 7)]
    maps, _ = Explainer(2**30).maps(forward, pairs, float("inf"))
    return forward.logits, maps.heatmaps


def min_cosine(ours: Tensor, theirs: Tensor) -> float:
    return float(functional.cosine_similarity(ours.flatten(1), theirs.flatten(1)).min())


@pytest.mark.parametrize("engine", ["eager", "openvino"])
def test_engine_reproduces_the_networks_maps(engine: Engine, parts: Split, images: Tensor) -> None:
    logits, maps = run(parts, images)

    accelerated = accelerate(parts, engine, "float32", images[:2])

    assert accelerated.engine == engine
    assert (accelerated.trunk is parts.trunk) == (engine == "eager")
    for count in (1, 5, 3):
        ours, our_maps = run(accelerated, images[:count])
        torch.testing.assert_close(ours, logits[:count], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(our_maps, maps[: 2 * count], rtol=0, atol=1e-4)
    # The results of one batch must remain unchanged when the next runs.
    with torch.inference_mode():
        first = accelerated.features(images[:1]).activations
        kept = first.clone()
        accelerated.features(images[1:2])
    assert torch.equal(first, kept)


@pytest.mark.parametrize("engine", ["eager", "openvino"])
@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_engine_in_lower_precision_yields_nearly_equal_maps(
    engine: Engine, precision: Precision, parts: Split, images: Tensor
) -> None:
    logits, maps = run(parts, images)

    ours, our_maps = run(accelerate(parts, engine, precision, images[:2]), images)

    assert min_cosine(our_maps, maps) > 0.98
    assert torch.equal(ours.argmax(dim=1), logits.argmax(dim=1))
    assert ours.dtype == our_maps.dtype == torch.float32


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("engine", ["eager", "compile"])
def test_engines_on_a_gpu(engine: Engine, precision: Precision, model: nn.Module, images: Tensor) -> None:
    logits, maps = run(split(model, LAYER, SIZE), images)
    on_gpu = images.cuda()

    accelerated = accelerate(split(copy.deepcopy(model).cuda(), LAYER, SIZE), engine, precision, on_gpu[:2])

    assert accelerated.engine == engine
    kept: list[tuple[Tensor, Tensor]] = []
    # CUDA graphs are recorded at the second call of a size and replayed from the third on.
    for start, end in ((0, 1), (0, 3), (1, 2), (1, 4), (2, 3), (2, 5), (3, 4)):
        ours, our_maps = run(accelerated, on_gpu[start:end])
        assert torch.equal(ours.argmax(dim=1).cpu(), logits[start:end].argmax(dim=1))
        assert min_cosine(our_maps, maps[2 * start : 2 * end]) > 0.98
        with torch.inference_mode():
            activations = accelerated.features(on_gpu[start:end]).activations
        kept.append((activations, activations.clone()))
    assert all(torch.equal(activations, copied) for activations, copied in kept)


@pytest.mark.parametrize("engine", ["eager", "openvino"])
@pytest.mark.parametrize("architecture", ["mobilenet_v3_small", "googlenet", "swin_t"])
def test_other_networks(architecture: str, engine: Engine) -> None:
    model = seeded(architecture)
    layer = default_layer(model, SIZE)
    parts = split(model, layer, SIZE)
    images = random_images(model, SIZE, 3)

    ours, theirs = run(accelerate(parts, engine, "float32", images[:2]), images), run(parts, images)

    torch.testing.assert_close(ours[0], theirs[0], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(ours[1], theirs[1], rtol=0, atol=1e-3)


# ----------------------------------------------------------------------------- which one


class Unconvertible(nn.Module):
    """A network with an operation that OpenVINO does not know."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 8, 3, stride=4)
        self.classes = nn.Linear(8, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.classes(self.layer(torch.lgamma(images)).relu().mean((2, 3)))
        return logits


def test_auto_selects_openvino_on_a_cpu(parts: Split, images: Tensor) -> None:
    assert accelerate(parts, "auto", "float32", images[:2]).engine == "openvino"


def test_auto_serves_with_torch_a_network_that_openvino_cannot_convert() -> None:
    network = oracles.seeded(Unconvertible(), seed=5)
    unconvertible = split(network, "layer", SIZE)
    images = random_images(network, SIZE, 3)

    accelerated = accelerate(unconvertible, "auto", "float32", images)

    assert (accelerated.engine, accelerated.trunk) == ("eager", unconvertible.trunk)
    with pytest.raises(EngineError, match="Engine 'openvino' cannot run this network: "):
        accelerate(unconvertible, "openvino", "float32", images)


def test_compile_is_for_gpus(parts: Split, images: Tensor) -> None:
    with pytest.raises(EngineError, match="Engine 'compile' runs on GPUs only, got device 'cpu'"):
        accelerate(parts, "compile", "float32", images[:2])


# ----------------------------------------------------------------------------- pixels


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_openvino_normalizes_pixels(precision: Precision, parts: Split) -> None:
    pixels = random_pixels(SIZE, 5, torch.device("cpu"))
    normalized = (pixels.double() / 255 - torch.tensor(NORMALIZATION.mean)[:, None, None]) / torch.tensor(
        NORMALIZATION.std
    )[:, None, None]
    with torch.inference_mode():
        expected = parts.trunk(normalized.float())

    accelerated = accelerate(parts, "openvino", precision, pixels[:2], NORMALIZATION)

    for count in (1, 5):
        for rows in (pixels[:count], pixels[:count].to(memory_format=torch.channels_last)):
            features = accelerated.features_of_pixels(rows, unexpected_normalization)
            for ours, theirs in zip((features.activations, *features.others), expected, strict=True):
                assert min_cosine(ours, theirs[:count]) > (0.99999 if precision == "float32" else 0.99)
    # Augmentations bring normalized images.
    assert min_cosine(accelerated.features(normalized.float()).activations, expected[0]) > 0.99


def unexpected_normalization(pixels: Tensor) -> Tensor:
    raise AssertionError("the engine normalizes")


def test_torch_is_given_normalized_images(parts: Split) -> None:
    pixels = random_pixels(SIZE, 2, torch.device("cpu"))
    in_torch = accelerate(parts, "eager", "float32", pixels, NORMALIZATION)
    with torch.inference_mode():
        ours = in_torch.features_of_pixels(pixels, NORMALIZATION).activations
        assert torch.equal(ours, parts.features(NORMALIZATION(pixels)).activations)


def wrong_engine(trunk: Trunk, precision: Precision, examples: Examples) -> Accelerated:
    def run(images: Tensor) -> tuple[Tensor, ...]:
        activations, *others = trunk(images)
        return activations.flip(3), *others

    return Accelerated(run, precision)


def failing_engine(trunk: Trunk, precision: Precision, examples: Examples) -> Accelerated:
    raise MemoryError("not so much")


@pytest.mark.parametrize(
    ("engine", "reason"),
    [
        (wrong_engine, "computes other activations than the network: cosine must be at least 0.99999, got 0"),
        (failing_engine, "not so much"),
    ],
)
def test_engine_with_wrong_results_is_rejected(
    engine: Any, reason: str, parts: Split, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ENGINES, "openvino", engine)
    with pytest.raises(EngineError, match=reason):
        accelerate(parts, "openvino", "float32", images[:2])
    assert accelerate(parts, "auto", "float32", images[:2]).engine == "eager"


def test_different_maps_are_detected_even_if_activations_agree(
    parts: Split, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = dataclasses.replace(cam.GRADIENT_METHODS["gradcam"], maps=lambda activations, _: torch.rand(2, 2, 2))
    monkeypatch.setitem(cam.GRADIENT_METHODS, "gradcam", random)
    monkeypatch.setitem(ENGINES, "openvino", lambda trunk, precision, images: Accelerated(trunk, precision))
    with pytest.raises(EngineError, match="computes other maps than the network"):
        accelerate(parts, "openvino", "float32", images[:2])
