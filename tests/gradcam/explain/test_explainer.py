"""Maps of every method, compared with other packages and with formulas written out; batches, memory, and time."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest
import pytorch_grad_cam
import torch
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn
from torch.nn import functional

from gradcam.explain import cam
from gradcam.explain.explainer import Explainer, ForwardPass, Pair
from gradcam.network.architecture import build
from gradcam.split.splitter import split
from tests.support import oracles

LAYER = "layer4.1.conv2"

# 64 channels instead of 512, for the methods that run the network once for each.
NARROW = "layer1.1.conv2"

SIDE = 96

CLASSES = 10

TARGETS = (4, 7)

ALL_TIME = float("inf")

LARGE = 2**40


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return oracles.seeded(build("resnet18", CLASSES), seed=3)


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(5))


def run(model: nn.Module, images: Tensor, layer: str = LAYER) -> ForwardPass:
    parts = split(model, layer, (images.shape[2], images.shape[3]))
    with torch.inference_mode():
        features = parts.features(images)
        return ForwardPass(parts, images, features, parts.logits(features))


@pytest.fixture(scope="module")
def forward(model: nn.Module, images: Tensor) -> ForwardPass:
    return run(model, images)


def explain(forward: ForwardPass, *pairs: Pair, max_replay_bytes: int = LARGE) -> Tensor:
    maps, timed_out = Explainer(max_replay_bytes).maps(forward, pairs, ALL_TIME)
    assert not timed_out
    return maps.heatmaps


def by_targets(forward: ForwardPass, method: str) -> Tensor:
    return explain(forward, *(Pair(row, target, method) for row, target in enumerate(TARGETS)))


def stretched(maps: Tensor) -> np.ndarray:
    """Return maps as pytorch-grad-cam does: at the input's size, scaled from their minimum to their maximum."""
    resized = functional.interpolate(maps[:, None], (SIDE, SIDE), mode="bilinear")[:, 0].numpy()
    low, high = resized.min((1, 2), keepdims=True), resized.max((1, 2), keepdims=True)
    return (resized - low) / (high - low + 1e-7)


REFERENCES = {
    "gradcam": pytorch_grad_cam.GradCAM,
    "xgradcam": pytorch_grad_cam.XGradCAM,
    "hirescam": pytorch_grad_cam.HiResCAM,
    "layercam": pytorch_grad_cam.LayerCAM,
    "eigencam": pytorch_grad_cam.EigenCAM,
    "eigengradcam": pytorch_grad_cam.EigenGradCAM,
}


@pytest.mark.parametrize("method", REFERENCES)
def test_maps_equal_pytorch_grad_cams(method: str, model: nn.Module, images: Tensor, forward: ForwardPass) -> None:
    ours = by_targets(forward, method)
    assert ours.amax(dim=(1, 2)).gt(0).all(), "maps of zeros would be equal, too"
    trainable = copy.deepcopy(model).requires_grad_(True)
    with REFERENCES[method](trainable, [trainable.get_submodule(LAYER)]) as reference:
        theirs = reference(images.clone(), [ClassifierOutputTarget(target) for target in TARGETS])
    if method in ("eigencam", "eigengradcam"):  # pytorch-grad-cam leaves a principal component's arbitrary sign open
        signed = [min((theirs[i], 1 - theirs[i]), key=lambda m: np.abs(m - stretched(ours)[i]).max()) for i in (0, 1)]
        positive = [i for i in (0, 1) if np.array_equal(signed[i], theirs[i])]
        np.testing.assert_allclose(stretched(ours)[positive], theirs[positive], atol=2e-4)
    else:
        np.testing.assert_allclose(stretched(ours), theirs, atol=2e-4)


def test_finercam_equals_pytorch_grad_cams(model: nn.Module, images: Tensor, forward: ForwardPass) -> None:
    trainable = copy.deepcopy(model).requires_grad_(True)
    for row, target in enumerate(TARGETS):
        reference = pytorch_grad_cam.FinerCAM(trainable, [trainable.get_submodule(LAYER)])
        theirs = reference(images[row : row + 1].clone(), target_idx=target)
        ours = explain(forward, Pair(row, target, "finercam"))
        np.testing.assert_allclose(stretched(ours), theirs, atol=2e-4)


def normalized(heat: Tensor) -> Tensor:
    return (heat.relu() / heat.relu().amax(dim=(1, 2), keepdim=True)).float()


@pytest.fixture(scope="module")
def observed(model: nn.Module, images: Tensor) -> oracles.Observed:
    return oracles.tutorial(model, LAYER, images, list(TARGETS))


def test_gradcam_plus_plus_equals_the_papers_formula(forward: ForwardPass, observed: oracles.Observed) -> None:
    """The expected map is computed in a loop over rows, channels, and positions, as in equations 7 and 19."""
    activations, gradients = observed.activations.double().numpy(), observed.gradients.double().numpy()
    heat = np.zeros((2, *activations.shape[2:]))
    for row, channel in np.ndindex(*activations.shape[:2]):
        a, g = activations[row, channel], gradients[row, channel]
        weight = 0.0
        for at in np.ndindex(*a.shape):
            if g[at] > 0:
                weight += g[at] ** 2 / (2 * g[at] ** 2 + a.sum() * g[at] ** 3) * g[at]
        heat[row] += weight * a
    torch.testing.assert_close(
        by_targets(forward, "gradcam++"), normalized(torch.from_numpy(heat)), rtol=1e-3, atol=1e-3
    )


def test_counterfactual_is_grad_cam_of_negative_gradients(forward: ForwardPass, observed: oracles.Observed) -> None:
    torch.testing.assert_close(
        by_targets(forward, "counterfactual"), normalized(-observed.weighted_sum), rtol=1e-4, atol=1e-4
    )


@pytest.mark.slow
def test_ablationcam_runs_the_network_without_each_channel(model: nn.Module, images: Tensor) -> None:
    forward = run(model, images, NARROW)
    outputs: list[Tensor] = []
    channels = forward.features.activations.shape[1]
    with torch.no_grad():
        hook = model.get_submodule(NARROW).register_forward_hook(lambda m, i, output: outputs.append(output.clone()))
        scores = model(images)
        hook.remove()
        drops = torch.zeros(2, channels)
        for channel in range(channels):

            def ablate(module: nn.Module, inputs: object, output: Tensor, channel: int = channel) -> Tensor:
                output = output.clone()
                output[:, channel] = 0
                return output

            hook = model.get_submodule(NARROW).register_forward_hook(ablate)
            ablated = model(images)
            hook.remove()
            for row, target in enumerate(TARGETS):
                drops[row, channel] = (scores[row, target] - ablated[row, target]) / scores[row, target]
    expected = normalized(torch.einsum("bc,bchw->bhw", drops, outputs[0]))
    torch.testing.assert_close(by_targets(forward, "ablationcam"), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.slow
def test_scorecam_runs_the_network_on_each_masked_image(model: nn.Module, images: Tensor) -> None:
    """The expected map is computed one channel at a time, as in sections 3.1 and 3.2 of the paper."""
    forward = run(model, images, NARROW)
    activations = forward.features.activations.clone()
    weights = torch.zeros(activations.shape[:2])
    for row, channel in np.ndindex(*weights.shape):
        mask = functional.interpolate(activations[row, channel][None, None], (SIDE, SIDE), mode="bilinear")
        mask = (mask - mask.min()) / (mask.max() - mask.min())
        with torch.no_grad():
            weights[row, channel] = model(images[row : row + 1] * mask)[0, TARGETS[row]]
    weights = weights.exp() / weights.exp().sum(dim=1, keepdim=True)
    expected = normalized(torch.einsum("bc,bchw->bhw", weights, activations))
    torch.testing.assert_close(by_targets(forward, "scorecam"), expected, rtol=1e-3, atol=1e-3)


def test_gradients_are_finite_differences() -> None:
    """One entry of the gradient equals the change of the logit per small change of the activation, in float64."""
    model = oracles.seeded(build("resnet18", 5), seed=2).double()
    images = torch.randn(1, 3, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    parts = split(model.float(), LAYER, (64, 64))
    model.double()
    with torch.no_grad():
        features = parts.features(images)
    with torch.enable_grad():
        gradients = parts.gradients(features, lambda logits: logits[:, 3])
    for at in ((0, 0, 0, 0), (0, 17, 1, 0), (0, 511, 1, 1)):
        logits = []
        for step in (1e-6, -1e-6):
            moved = features.activations.clone()
            moved[at] += step
            with torch.no_grad():
                logits.append(parts.logits(dataclasses.replace(features, activations=moved))[0, 3])
        assert float(gradients[at]) == pytest.approx(float(logits[0] - logits[1]) / 2e-6, rel=1e-5, abs=1e-9)


def test_three_methods_agree_before_pooling_and_a_linear_layer() -> None:
    class Pooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.grid = nn.Conv2d(3, 6, 3, stride=4)
            self.fc = nn.Linear(6, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.grid(x).mean((2, 3)))

    model = oracles.seeded(Pooled(), seed=4)
    forward = run(model, torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(3)), "grid")
    weights = model.get_parameter("fc.weight")
    class_activation = torch.einsum("bc,bchw->bhw", weights[list(TARGETS_OF_4)], forward.features.activations)
    for method in ("gradcam", "hirescam", "xgradcam"):
        maps = explain(forward, *(Pair(row, target, method) for row, target in enumerate(TARGETS_OF_4)))
        torch.testing.assert_close(maps, normalized(class_activation), rtol=1e-4, atol=1e-5, msg=method)


TARGETS_OF_4 = (1, 3)


@pytest.mark.parametrize("max_replay_bytes", [1, 3 * 2**20, LARGE])
def test_pairs_of_all_methods_together_equal_each_alone(forward: ForwardPass, max_replay_bytes: int) -> None:
    methods: Sequence[str] = [name for name in cam.METHODS if name != "scorecam"]
    pairs = [Pair(i % 2, (i * 3) % CLASSES, name) for i, name in enumerate([*methods, *methods])]
    together = explain(forward, *pairs, max_replay_bytes=max_replay_bytes)
    for pair, heatmap in zip(pairs, together, strict=True):
        torch.testing.assert_close(heatmap, explain(forward, pair)[0], rtol=1e-3, atol=1e-4, msg=str(pair))


def test_chunk_stays_within_the_memory_budget(forward: ForwardPass) -> None:
    sizes: list[int] = []
    hook = forward.split.head.register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])))
    budget = 5 * forward.split.replay_bytes + 1
    explain(forward, *(Pair(0, target, "gradcam") for target in range(CLASSES)), max_replay_bytes=budget)
    explain(forward, Pair(0, 1, "ablationcam"), Pair(0, 2, "ablationcam"), max_replay_bytes=budget)
    hook.remove()
    # Ten pairs, then 512 channels once for both classes.
    assert sizes == [5, 5, *[5] * 102, 2]


def test_pairs_that_time_out_are_returned(forward: ForwardPass) -> None:
    pairs = [Pair(0, 1, "scorecam"), Pair(0, 2, "gradcam"), Pair(1, 3, "ablationcam"), Pair(1, 4, "gradcam")]

    maps, timed_out = Explainer(2 * forward.split.replay_bytes).maps(forward, pairs, deadline=0.0)

    # The first chunk is always computed.
    assert sorted(timed_out) == [0, 2]
    torch.testing.assert_close(maps.heatmaps[[1, 3]], explain(forward, pairs[1], pairs[3]))
    assert Explainer(1).maps(forward, pairs, deadline=0.0)[1] == [3, 2, 0]


def test_maps_change_when_weights_are_randomized(model: nn.Module, images: Tensor, forward: ForwardPass) -> None:
    """Adebayo et al. 2018, cascading randomization: from the classifier down, each layer gets new random weights."""
    before = by_targets(forward, "gradcam")
    forgetful = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(9)
    for name in ("fc", "layer4", "layer3"):
        for parameter in forgetful.get_submodule(name).parameters():
            deviation = float(parameter.std()) if parameter.numel() > 1 else 1.0
            parameter.copy_(parameter.mean() + deviation * torch.randn(parameter.shape, generator=generator))
        after = by_targets(run(forgetful, images), "gradcam")
        for old, new in zip(before, after, strict=True):
            if new.any():  # a map that became all 0 has changed, too
                correlation = np.corrcoef(old.flatten(), new.flatten())[0, 1]
                assert correlation < 0.9, f"after {name}, the map still correlates by {correlation:.2f}"


def test_mirrored_image_has_the_mirrored_map() -> None:
    """The network is symmetric: mirrored filters and no strides."""
    stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU())
    model = oracles.seeded(nn.Sequential(stem, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, CLASSES)), seed=6)
    for name in ("0.0.weight", "0.2.weight"):
        weight = model.get_parameter(name)
        weight.copy_((weight + weight.flip(3)) / 2)
    images = torch.randn(2, 3, 24, 24, generator=torch.Generator().manual_seed(8))
    for method in ("gradcam", "gradcam++", "hirescam", "layercam", "xgradcam"):
        straight = by_targets(run(model, images, "0.2"), method)
        mirrored = by_targets(run(model, images.flip(3), "0.2"), method)
        torch.testing.assert_close(mirrored, straight.flip(2), rtol=1e-4, atol=1e-5, msg=method)


def test_maps_distinguish_two_objects() -> None:
    """The network detects red and green; the image has one object of each color."""
    model = nn.Sequential(
        nn.Conv2d(3, 2, 4, stride=4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2)
    )
    model[0].weight.data = torch.zeros(2, 3, 4, 4)
    model[0].weight.data[0, 0] = model[0].weight.data[1, 1] = 1 / 16
    model[0].bias.data = torch.zeros(2)
    model[4].weight.data, model[4].bias.data = torch.eye(2), torch.zeros(2)
    image = torch.zeros(1, 3, 32, 32)
    image[0, 0, 4:12, 4:12] = 1  # red, upper left
    image[0, 1, 20:28, 20:28] = 1  # green, lower right
    forward = run(model.eval().requires_grad_(False), image, "0")
    for method in cam.METHODS:
        if method in ("eigencam", "counterfactual", "scorecam"):
            # Eigen-CAM ignores the class, counterfactual shows evidence against it, and Score-CAM's softmax hardly
            # distinguishes two channels.
            continue
        red, green = explain(forward, Pair(0, 0, method), Pair(0, 1, method))
        assert red.argmax() == 9, method
        assert red[4:, 4:].sum() < 0.2 * red[:4, :4].sum(), method
        assert green[5:7, 5:7].min() > 0.9, method
        assert green[:4, :4].sum() < 0.2 * green[4:, 4:].sum(), method


@pytest.mark.parametrize(("precision", "tolerance"), [(torch.bfloat16, 0.1), (torch.float16, 0.02)])
def test_trunk_of_lower_precision_yields_nearly_equal_maps(
    model: nn.Module, images: Tensor, forward: ForwardPass, precision: torch.dtype, tolerance: float
) -> None:
    with torch.inference_mode(), torch.autocast("cpu", precision):
        low = forward.split.features(images)
    assert low.activations.dtype == precision
    with torch.inference_mode():
        features = low.float()
        logits = forward.split.logits(features)
    passed = dataclasses.replace(forward, features=features, logits=logits)
    for method in ("gradcam", "hirescam", "layercam", "gradcam++"):
        exact, rough = by_targets(forward, method), by_targets(passed, method)
        assert rough.dtype == torch.float32
        torch.testing.assert_close(rough, exact, rtol=0, atol=tolerance, msg=method)


def test_results_are_reproducible_to_the_bit(model: nn.Module, images: Tensor) -> None:
    first, second = (run(model, images) for _ in range(2))
    for method in cam.METHODS:
        if method != "scorecam":
            assert torch.equal(by_targets(first, method), by_targets(second, method)), method


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("method", [name for name in cam.METHODS if name != "scorecam"])
def test_maps_on_a_gpu_equal_those_on_the_cpu(
    model: nn.Module, images: Tensor, forward: ForwardPass, method: str
) -> None:
    """Within 0.01: convolutions may run in TF32 there."""
    on_gpu = run(copy.deepcopy(model).cuda(), images.cuda())
    torch.testing.assert_close(by_targets(on_gpu, method), by_targets(forward, method), rtol=0, atol=0.01)
