"""Trunk and head against the whole network, on real architectures and on networks as users write them."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
import torchvision
from captum.attr import LayerGradCam
from torch import Tensor, nn

from gradcam.errors import UnknownName
from gradcam.explain import cam
from gradcam.network import architecture as network
from gradcam.network.target_layer import default_layer
from gradcam.split.parts import Split, SplitError
from gradcam.split.splitter import split
from tests.support import oracles

CLASSES = 10
SIZE = (64, 96)
SMALL = (32, 64)

# Architecture, layer and size of the images. Chosen for what stands at the cut.
REAL = [
    # The residual goes around the layer, and so crosses the cut.
    ("resnet18", "layer4.1.conv2", SIZE),
    ("resnet18", "layer4", SIZE),
    # A residual that is downsampled on its way.
    ("resnet18", "layer3.0.conv1", SMALL),
    ("resnet18", "conv1", SMALL),
    # An in-place ReLU, or hardswish, overwrites the layer's output.
    ("vgg11", "features.18", SMALL),
    ("mobilenet_v3_small", "features.10.block.0.0", SIZE),
    # The layer's output is joined with those of others; behind norm5 stands a functional in-place ReLU.
    ("densenet121", "features.denseblock4.denselayer16.conv2", SIZE),
    ("densenet121", "features.norm5", SIZE),
    # Squeeze-and-excitation behind the layer uses its output twice.
    ("mobilenet_v3_small", "features.11.block.1", SIZE),
    # The batch size is read from the images and used in the head.
    ("efficientnet_lite0", "_conv_head", SIZE),
    # Three other branches cross the cut.
    ("googlenet", "inception5b.branch2.1.conv", SIZE),
    # Stochastic depth, which hands on its input, and `+=` on what it hands on.
    ("efficientnet_b0", "features.6.3.block.3", SIZE),
    ("shufflenet_v2_x0_5", "stage4.3.branch2.5", SIZE),
]


@functools.cache
def _seeded(architecture: str) -> nn.Module:
    if architecture == "googlenet":
        model = torchvision.models.googlenet(weights=None, num_classes=CLASSES, init_weights=False, aux_logits=False)
    elif architecture == "vgg11":
        # Its own classifier has a hundred million parameters, which tell nothing about the cut.
        with torch.device("meta"):
            model = torchvision.models.vgg11(num_classes=CLASSES)
        model.classifier = nn.Linear(512 * 7 * 7, CLASSES, device="meta")
        model = model.to_empty(device="cpu")
    else:
        model = network.build(architecture, CLASSES)
    return oracles.seeded(model)


def real(architecture: str) -> nn.Module:
    return copy.deepcopy(_seeded(architecture))


def some_images(count: int, size: tuple[int, int] = SIZE) -> Tensor:
    return torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(7))  # (count, 3, H, W)


def assert_same(ours: Tensor, theirs: Tensor, what: str, tolerance: float = 1e-5) -> None:
    """Equal to float32 rounding: the largest difference, relative to the largest value."""
    assert ours.shape == theirs.shape, what
    scale = float(theirs.abs().max())
    assert scale > 0, f"{what}: all 0 proves nothing"
    difference = float((ours - theirs).abs().max()) / scale
    assert difference <= tolerance, f"{what}: {difference:.2e} apart"


def explain(parts: Split, images: Tensor, rows: list[int], classes: list[int]) -> oracles.Observed:
    """Runs the parts as the pipeline does."""
    with torch.inference_mode():
        features = parts.features(images)
        parts.logits(features)  # Must leave the features alone.
    selected = features.rows(torch.tensor(rows))
    with torch.no_grad():
        logits = parts.logits(selected)
    gradients = parts.gradients(selected, lambda logits: logits.gather(1, torch.tensor(classes)[:, None])[:, 0])
    return oracles.Observed(selected.activations, gradients, logits)


def assert_faithful(parts: Split, original: nn.Module, images: Tensor) -> None:
    """The parts compute what `original` computes, and the gradients are those at its layer."""
    with torch.no_grad():
        assert_same(parts.logits(parts.features(images)), original(images), "logits")
    rows, classes = [1, 0, 1], [0, 1, 3]
    expected = oracles.autograd_at(original, parts.layer, images[rows], classes)
    observed = explain(parts, images, rows, classes)
    assert_same(observed.activations, expected.activations, "activations")
    assert_same(observed.logits, expected.logits, "logits of the rows")
    assert_same(observed.gradients, expected.gradients, "gradients")


# ----------------------------------------------------------------------------- real architectures


@dataclass(frozen=True)
class Cut:
    """A network as it was before it was cut, its parts, and images of the size it was cut for."""

    original: nn.Module
    parts: Split
    images: Tensor
    """(2, 3, H, W)."""


@pytest.fixture(scope="module", params=REAL, ids=lambda entry: "-".join(entry[:2]))
def cut(request: pytest.FixtureRequest) -> Cut:
    architecture, layer, size = request.param
    return Cut(real(architecture), split(real(architecture), layer, size), some_images(2, size))


def test_parts_compute_what_the_network_computes(cut: Cut) -> None:
    assert_faithful(cut.parts, cut.original, cut.images)


def test_logits_are_equal_to_the_last_bit(cut: Cut) -> None:
    with torch.inference_mode():
        assert torch.equal(cut.parts.logits(cut.parts.features(cut.images)), cut.original(cut.images))


def test_a_gradient_leaves_the_features_and_the_network_alone(cut: Cut) -> None:
    parts, weights = cut.parts, cut.original.state_dict()
    with torch.inference_mode():
        features = parts.features(cut.images)
    before = [tensor.clone() for tensor in (features.activations, *features.others)]
    first = parts.gradients(features.rows(torch.tensor([0])), lambda logits: logits[:, 2])
    second = parts.gradients(features.rows(torch.tensor([0])), lambda logits: logits[:, 2])
    assert torch.equal(first, second)
    assert all(map(torch.equal, before, (features.activations, *features.others)))
    for part in (parts.trunk, parts.head):
        for name, parameter in part.named_parameters():
            assert parameter.grad is None, name
            assert not parameter.requires_grad, name
        for name, tensor in part.state_dict().items():
            assert torch.equal(tensor, weights[name]), name


RESIDUAL = ["layer4.1.conv2", "layer4", "layer3.0.conv1", "conv1"]


@pytest.mark.parametrize("layer", RESIDUAL)
def test_gradients_are_those_of_the_tutorials_two_hooks(layer: str) -> None:
    model, images, classes = real("resnet18"), some_images(2), [4, 7]
    expected = oracles.tutorial(model, layer, images, classes)
    observed = explain(split(model, layer, SIZE), images, [0, 1], classes)
    assert_same(observed.gradients, expected.gradients, "gradients")
    assert_same(cam.normalize(cam.gradcam(observed.activations, observed.gradients)), expected.heatmaps, "heatmaps")


@pytest.mark.parametrize(
    ("architecture", "layer"),
    [
        ("resnet18", "layer4.1.conv2"),
        ("vgg11", "features.18"),
        ("densenet121", "features.norm5"),
        ("efficientnet_lite0", "_conv_head"),
        ("googlenet", "inception5b.branch2.1.conv"),
    ],
)
def test_maps_are_those_of_captum(architecture: str, layer: str) -> None:
    model, images, classes = real(architecture), some_images(2), [4, 7]
    peer = LayerGradCam(model, model.get_submodule(layer))
    theirs = peer.attribute(images.requires_grad_(), target=classes)[:, 0].detach()  # (B, 1, h, w) → (B, h, w)
    images = images.detach()
    observed = explain(split(model, layer, SIZE), images, [0, 1], classes)
    assert_same(cam.gradcam(observed.activations, observed.gradients), theirs, "maps")


def test_maps_are_those_of_pytorch_grad_cam() -> None:
    from pytorch_grad_cam import GradCAM  # noqa: PLC0415 (slow to import)
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget  # noqa: PLC0415

    model, images, classes = real("resnet18"), some_images(2), [4, 7]
    observed = explain(split(model, "layer4.1.conv2", SIZE), images, [0, 1], classes)
    peer_model = copy.deepcopy(model).requires_grad_(True)
    target = peer_model.layer4[1].conv2
    with GradCAM(model=peer_model, target_layers=[target]) as peer:
        logits = peer.activations_and_grads(images)
        sum(logits[row, index] for row, index in enumerate(classes)).backward()
        (activations,), (gradients,) = peer.activations_and_grads.activations, peer.activations_and_grads.gradients
        goals = [ClassifierOutputTarget(index) for index in classes]
        theirs = peer.get_cam_image(images, target, goals, activations.numpy(), gradients.numpy())
    ours = cam.gradcam(observed.activations, observed.gradients)
    assert_same(ours, torch.as_tensor(theirs), "maps before normalisation")


def test_the_head_takes_more_rows_than_the_trunk_had() -> None:
    for architecture, layer in (("resnet18", "layer4.1.conv2"), ("efficientnet_lite0", "_conv_head")):
        model, images = real(architecture), some_images(3)
        rows, classes = [2, 0, 1, 2, 2, 0, 1], [0, 1, 2, 3, 4, 5, 6]
        expected = oracles.autograd_at(model, layer, images[rows], classes)
        observed = explain(split(model, layer, SIZE), images, rows, classes)
        assert_same(observed.gradients, expected.gradients, "gradients")
        assert_same(observed.logits, expected.logits, "logits")


def test_the_target_layer_is_the_tutorials() -> None:
    assert default_layer(real("resnet18"), (64, 64)) == oracles.target_layer(real("resnet18")) == "layer4.1.conv2"


def test_no_hook_stays_and_the_network_stays_whole() -> None:
    model = real("resnet18")
    images, weights = some_images(2), copy.deepcopy(model.state_dict())
    expected = model(images)
    parts = split(model, "layer4.1.conv2", SIZE)
    for module in (*model.modules(), *parts.trunk.modules(), *parts.head.modules()):
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
        assert not module._backward_hooks
    assert torch.equal(model(images), expected)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())


# ----------------------------------------------------------------------------- networks as users write them


class Toy(nn.Module):
    """Two convolutions and a linear layer, put together in `forward` by each network below."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.layer = nn.Conv2d(4, 4, 3, padding=1)
        self.act = nn.ReLU(inplace=True)
        self.drop = nn.Dropout(0.5, inplace=True)
        self.same = nn.Identity()
        self.table = nn.Parameter(torch.empty(1, 4, 1, 1))
        self.classes = nn.Linear(4, 5)

    def end(self, h: Tensor) -> Tensor:
        logits: Tensor = self.classes(h.mean((2, 3)))
        return logits


class CustomForward(Toy):
    """A toy whose `forward` is given from outside."""

    def __init__(self, function: Callable[[Toy, Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


TOY_SIZE = (8, 10)


def toy(function: Callable[[Toy, Tensor], Tensor]) -> nn.Module:
    return oracles.seeded(CustomForward(function))


def assert_served(function: Callable[[Toy, Tensor], Tensor], layer: str = "layer") -> None:
    model = toy(function)
    original = copy.deepcopy(model)
    parts = split(model, layer, TOY_SIZE)
    assert_faithful(parts, original, some_images(2, TOY_SIZE))
    with torch.no_grad():
        assert torch.equal(model(some_images(2, TOY_SIZE)), original(some_images(2, TOY_SIZE)))


def refused(function: Callable[[Toy, Tensor], Tensor], match: str | None = None, layer: str = "layer") -> None:
    with pytest.raises(SplitError, match=match) as caught:
        split(toy(function), layer, TOY_SIZE)
    assert repr(layer) in str(caught.value)


IN_PLACE: dict[str, Callable[[Toy, Tensor], Tensor]] = {
    "nn.ReLU(inplace)": lambda m, x: m.end(m.act(m.layer(m.first(x)))),
    "F.relu(inplace=True)": lambda m, x: m.end(F.relu(m.layer(m.first(x)), inplace=True)),
    "F.relu(x, True)": lambda m, x: m.end(F.relu(m.layer(m.first(x)), True)),
    "F.leaky_relu(inplace)": lambda m, x: m.end(F.leaky_relu(m.layer(m.first(x)), 0.2, inplace=True)),
    "F.hardtanh_": lambda m, x: m.end(F.hardtanh_(m.layer(m.first(x)), -0.3, 0.3)),
    "torch.relu_": lambda m, x: m.end(torch.relu_(m.layer(m.first(x)))),
    "torch.sigmoid_": lambda m, x: m.end(torch.sigmoid_(m.layer(m.first(x)))),
    "one after the other": lambda m, x: m.end(m.layer(m.first(x)).add_(1).mul_(3).relu_()),
    "x.relu_()": lambda m, x: m.end(m.layer(m.first(x)).relu_()),
    "x.clamp_()": lambda m, x: m.end(m.layer(m.first(x)).clamp_(min=-0.1)),
    "behind an identity": lambda m, x: m.end(m.act(m.same(m.layer(m.first(x))))),
    "behind an idle in-place dropout": lambda m, x: m.end(m.act(m.drop(m.layer(m.first(x))))),
    "on a view": lambda m, x: m.classes(m.layer(m.first(x)).flatten(2).mul_(1.5).sigmoid_().mean(2)),
    "on a slice": lambda m, x: m.end(sliced(m.layer(m.first(x)))),
    "later on": lambda m, x: m.end(m.act(m.layer(m.first(x)) * 2 + 1)),
}


def sliced(h: Tensor) -> Tensor:
    h[:, :2].mul_(3)
    return h


@pytest.mark.parametrize("name", IN_PLACE)
def test_an_in_place_operation_behind_the_layer(name: str) -> None:
    assert_served(IN_PLACE[name])


def augmented(h: Tensor, other: Tensor, operation: str) -> Tensor:
    if operation == "+=":
        h += other
    elif operation == "-=":
        h -= other
    elif operation == "*=":
        h *= other
    elif operation == "/=":
        h /= other.abs() + 1
    else:
        h **= 2
    return h


@pytest.mark.parametrize("operation", ["+=", "-=", "*=", "/=", "**="])
def test_an_augmented_assignment_to_the_layers_output(operation: str) -> None:
    def forward(m: Toy, x: Tensor) -> Tensor:
        skip = m.first(x)
        return m.end(augmented(m.layer(skip), skip, operation).tanh())

    assert_served(forward)


@pytest.mark.parametrize("operation", ["+=", "-=", "*=", "/="])
def test_an_augmented_assignment_to_a_value_that_goes_around_the_layer(operation: str) -> None:
    def forward(m: Toy, x: Tensor) -> Tensor:
        skip = m.first(x)
        return m.end(augmented(skip, m.layer(skip), operation).tanh())

    assert_served(forward)


def result_ignored_module(m: Toy, x: Tensor) -> Tensor:
    h = m.layer(m.first(x))
    m.act(h)
    return m.end(h)


def result_ignored_method(m: Toy, x: Tensor) -> Tensor:
    h = m.layer(m.first(x))
    h.relu_()
    return m.end(h)


def result_ignored_function(m: Toy, x: Tensor) -> Tensor:
    h = m.layer(m.first(x))
    torch.relu_(h)
    return m.end(h)


def skip_is_overwritten_module(m: Toy, x: Tensor) -> Tensor:
    h = m.first(x)
    return m.end(m.layer(m.act(h)) + h)


def skip_is_overwritten_function(m: Toy, x: Tensor) -> Tensor:
    h = m.first(x)
    return m.end(m.layer(F.relu(h, inplace=True)) + h)


def output_is_read_after_it_is_overwritten(m: Toy, x: Tensor) -> Tensor:
    h = m.layer(m.first(x))
    return m.end(m.act(h) * 2 - h.exp())


def skip_is_added_to(m: Toy, x: Tensor) -> Tensor:
    h = m.first(x)
    skip = h
    h = m.layer(h)
    skip.add_(h)
    return m.end(h * skip)


def output_is_read_before_it_is_overwritten(m: Toy, x: Tensor) -> Tensor:
    h = m.layer(m.first(x))
    return m.end(h.exp() - m.act(h) * 2)


OVERWRITTEN = [
    result_ignored_module,
    result_ignored_method,
    result_ignored_function,
    skip_is_overwritten_module,
    skip_is_overwritten_function,
    skip_is_added_to,
    output_is_read_after_it_is_overwritten,
    output_is_read_before_it_is_overwritten,
]


@pytest.mark.parametrize("forward", OVERWRITTEN, ids=lambda forward: forward.__name__)
def test_a_value_that_is_read_again_after_it_is_overwritten(forward: Callable[[Toy, Tensor], Tensor]) -> None:
    # Out of place such a network computes something else, and a proof against that network proves nothing.
    assert_served(forward)


CROSSINGS: dict[str, Callable[[Toy, Tensor], Tensor]] = {
    "two tensors": lambda m, x: m.end(m.layer(m.first(x)) * m.first(x).sigmoid() + x.mean(1, keepdim=True)),
    "a vector an image": lambda m, x: m.end(m.layer(m.first(x)) * x.amax((1, 2, 3))[:, None, None, None]),
    "the batch size": lambda m, x: m.classes(m.layer(m.first(x)).reshape(x.size(0), 4, -1).mean(2)),
    "the batch size, from the shape": lambda m, x: m.classes(m.layer(m.first(x)).reshape(x.shape[0], 4, -1).mean(2)),
    "the width": lambda m, x: m.end(m.layer(m.first(x)) / x.shape[3]),
    "the size": lambda m, x: m.end(F.interpolate(m.layer(m.first(x)), size=x.shape[2:], mode="nearest").sigmoid()),
    "a parameter": lambda m, x: m.end(m.layer(m.first(x)) * m.table),
    "what comes of a parameter": lambda m, x: m.end(m.layer(m.first(x)) * m.table.exp()),
    "a number": lambda m, x: m.end(m.layer(m.first(x)) * 0.5 + math.pi),
    "parts of a split tensor": lambda m, x: m.end(
        m.layer(m.first(x)) + m.first(x).chunk(2, dim=1)[0].repeat(1, 2, 1, 1)
    ),
}


@pytest.mark.parametrize("name", CROSSINGS)
def test_what_crosses_the_cut_beside_the_layer(name: str) -> None:
    assert_served(CROSSINGS[name])


def test_a_multiple_of_the_batch_size_crosses_the_cut() -> None:
    # Four heads folded into the batch, as attention does.
    def forward(m: Toy, x: Tensor) -> Tensor:
        folded = x.shape[0] * 4
        return m.classes(m.layer(m.first(x)).reshape(folded, -1).mean(1).reshape(-1, 4))

    assert_served(forward)


class TwoInputs(Toy):
    """The second input is never given, as an attention mask would not be."""

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        h = self.layer(self.first(x))
        if mask is not None:
            h = h * mask
        return self.end(h)


def test_an_optional_input_that_is_not_given() -> None:
    model = oracles.seeded(TwoInputs())
    original = copy.deepcopy(model)
    assert_faithful(split(model, "layer", TOY_SIZE), original, some_images(2, TOY_SIZE))


# ----------------------------------------------------------------------------- refusals


def test_an_unknown_layer_is_answered_with_near_names() -> None:
    with pytest.raises(UnknownName, match=r"'layer4\.1\.conv3'.*'layer4\.1\.conv2'") as caught:
        split(real("resnet18"), "layer4.1.conv3", SIZE)
    assert caught.value.code == "unknown_layer"


def test_a_layer_that_is_executed_twice_is_refused() -> None:
    refused(lambda m, x: m.end(m.layer(m.layer(m.first(x)))), "executed 2 times")
    with pytest.raises(SplitError, match=r"'layer4\.1\.relu'.* 2 times"):
        split(real("resnet18"), "layer4.1.relu", SIZE)


def test_a_layer_that_is_never_executed_is_refused() -> None:
    refused(lambda m, x: m.end(m.first(x)), "not executed")


def test_a_layer_whose_output_is_not_used_is_refused() -> None:
    def forward(m: Toy, x: Tensor) -> Tensor:
        h = m.first(x)
        m.layer(h)
        return m.end(h)

    refused(forward)


@pytest.mark.parametrize(
    "forward",
    [
        lambda m, x: m.end(m.layer(m.first(x)).detach()),
        lambda m, x: m.end((m.layer(m.first(x)) > 0).float()),
        # The root's slope is infinite at 0, where that of the product is 0: their product is NaN.
        lambda m, x: m.end((m.layer(m.first(x)) * 0).sqrt()),
    ],
    ids=["detached", "compared", "nan"],
)
def test_a_layer_that_no_gradient_reaches_is_refused(forward: Callable[[Toy, Tensor], Tensor]) -> None:
    refused(forward)


def test_an_output_with_one_position_is_refused() -> None:
    refused(lambda m, x: m.end(m.layer(m.first(x).mean((2, 3), keepdim=True))), "must be a grid of positions")
    with pytest.raises(SplitError, match="must be a grid of positions"):
        split(real("resnet18"), "layer4.1.conv2", (32, 32))


def test_an_output_that_is_no_feature_map_is_refused() -> None:
    refused(
        lambda m, x: m.end(m.layer(m.first(x))),
        r"must be a grid of positions on the image, got shape \(5,\) per image",
        "classes",
    )


@pytest.mark.parametrize(
    "forward",
    [
        lambda m, x: {"logits": m.end(m.layer(m.first(x)))},
        lambda m, x: (m.end(m.layer(m.first(x))), x),
        lambda m, x: m.end(m.layer(m.first(x)))[:, 0],
        lambda m, x: m.layer(m.first(x)),
    ],
    ids=["a dict", "a tuple", "one number an image", "a map"],
)
def test_a_network_that_does_not_end_in_logits_is_refused(forward: Callable[[Toy, Tensor], Tensor]) -> None:
    refused(forward)


def test_control_flow_that_depends_on_the_image_is_cut_with_hooks() -> None:
    """The results are those of the same network without the control flow, which torch.fx cuts."""

    def straight(m: Toy, x: Tensor) -> Tensor:
        h = m.first(x)
        return m.end(m.act(m.layer(h)) + h)

    def branching(m: Toy, x: Tensor) -> Tensor:
        return straight(m, x) if x.abs().mean() > 0 else m.end(x)

    images, rows, classes = some_images(2, TOY_SIZE), torch.tensor([0, 1, 1]), torch.tensor([2, 0, 1])
    results = []
    for forward, way in ((straight, "fx"), (branching, "hook")):
        model = toy(forward)
        parts = split(model, "layer", TOY_SIZE)
        assert parts.method == way
        with torch.inference_mode():
            features = parts.features(images)
            logits = parts.logits(features)
        gradients = parts.gradients(features.rows(rows), lambda logits: logits.gather(1, classes[:, None])[:, 0])
        results.append((features.activations, logits, gradients))
        assert not any(module._forward_hooks for module in model.modules())
    for hooked, traced in zip(*results, strict=True):
        torch.testing.assert_close(hooked, traced)


MIXED: dict[str, Callable[[Toy, Tensor], Tensor]] = {
    "centred before the layer": lambda m, x: m.end(m.layer(m.first(x - x.mean(0)))),
    "divided by the brightest of all": lambda m, x: m.end(m.layer(m.first(x / x.max()))),
    "centred behind the layer": lambda m, x: m.end(m.layer(m.first(x)) - m.layer.bias.mean() - x.mean()),
    "sorted behind the layer": lambda m, x: m.end(m.layer(m.first(x)).sort(dim=0).values),
    "only the first image is changed": lambda m, x: m.end(m.layer(m.first(x + F.pad(x[1:], (0,) * 7 + (1,))))),
}


@pytest.mark.parametrize("name", MIXED)
def test_a_network_that_mixes_images_is_refused(name: str) -> None:
    refused(MIXED[name])


def test_a_network_in_training_mode_is_refused() -> None:
    with pytest.raises(SplitError, match=r"layer4\.1\.conv2"):
        split(real("resnet18").train(), "layer4.1.conv2", SIZE)


@pytest.mark.parametrize("layer", ["first", "classes"])
def test_a_network_with_nan_in_its_weights_is_refused(layer: str) -> None:
    model = toy(lambda m, x: m.end(m.layer(m.first(x))))
    model.get_submodule(layer).weight.view(-1)[0] = math.nan  # type: ignore[union-attr,operator]
    with pytest.raises(SplitError, match="'layer'"):
        split(model, "layer", TOY_SIZE)


def test_no_hook_stays_after_a_refusal() -> None:
    model = toy(lambda m, x: m.end(m.layer(m.first(x)).sort(dim=0).values))
    with pytest.raises(SplitError):
        split(model, "layer", TOY_SIZE)
    assert not any(module._forward_hooks for module in model.modules())
