"""Split networks, compared with the unmodified networks and with other packages."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from captum.attr import LayerGradCam
from torch import Tensor, nn

from gradcam.errors import UnknownName
from gradcam.explain import cam
from gradcam.network.target_layer import default_layer
from gradcam.split.parts import Split, SplitError
from gradcam.split.splitter import split
from tests.support import oracles
from tests.support.split_networks import (
    SIZE,
    SMALL,
    Toy,
    assert_faithful,
    assert_same,
    explain,
    real,
    rejected,
    some_images,
)

# Architecture, layer, and image size; chosen for their values at the split point.
REAL = [
    # The residual bypasses the layer, so the head needs it, too.
    ("resnet18", "layer4.1.conv2", SIZE),
    ("resnet18", "layer4", SIZE),
    # A downsampled residual.
    ("resnet18", "layer3.0.conv1", SMALL),
    ("resnet18", "conv1", SMALL),
    # An in-place ReLU, or hardswish, overwrites the layer's output.
    ("vgg11", "features.18", SMALL),
    ("mobilenet_v3_small", "features.10.block.0.0", SIZE),
    # The layer's output is concatenated with others; a functional in-place ReLU follows norm5.
    ("densenet121", "features.denseblock4.denselayer16.conv2", SIZE),
    ("densenet121", "features.norm5", SIZE),
    # Squeeze-and-excitation after the layer uses its output twice.
    ("mobilenet_v3_small", "features.11.block.1", SIZE),
    # The batch size is read from the images and used in the head.
    ("efficientnet_lite0", "_conv_head", SIZE),
    # The head needs three other branches.
    ("googlenet", "inception5b.branch2.1.conv", SIZE),
    # Stochastic depth, which returns its input, and `+=` on this input.
    ("efficientnet_b0", "features.6.3.block.3", SIZE),
    ("shufflenet_v2_x0_5", "stage4.3.branch2.5", SIZE),
]


@dataclass(frozen=True)
class SplitCase:
    """A network before the split, its parts, and images of the size that it was split for."""

    original: nn.Module
    parts: Split
    images: Tensor
    """(2, 3, H, W)."""


@pytest.fixture(scope="module", params=REAL, ids=lambda entry: "-".join(entry[:2]))
def case(request: pytest.FixtureRequest) -> SplitCase:
    architecture, layer, size = request.param
    return SplitCase(real(architecture), split(real(architecture), layer, size), some_images(2, size))


def test_parts_compute_what_the_network_computes(case: SplitCase) -> None:
    assert_faithful(case.parts, case.original, case.images)


def test_logits_are_equal_to_the_last_bit(case: SplitCase) -> None:
    with torch.inference_mode():
        assert torch.equal(case.parts.logits(case.parts.features(case.images)), case.original(case.images))


def test_gradients_do_not_modify_features_or_network(case: SplitCase) -> None:
    parts, weights = case.parts, case.original.state_dict()
    with torch.inference_mode():
        features = parts.features(case.images)
    before = [tensor.clone() for tensor in (features.activations, *features.others)]
    first = parts.gradients(features.rows(torch.tensor([0])), lambda logits: logits[:, 2])
    second = parts.gradients(features.rows(torch.tensor([0])), lambda logits: logits[:, 2])
    assert torch.equal(first, second)
    assert all(map(torch.equal, before, (features.activations, *features.others)))
    for part in (parts.trunk, parts.head):
        assert isinstance(part, nn.Module)
        for name, parameter in part.named_parameters():
            assert parameter.grad is None, name
            assert not parameter.requires_grad, name
        for name, tensor in part.state_dict().items():
            assert torch.equal(tensor, weights[name]), name


RESIDUAL = ["layer4.1.conv2", "layer4", "layer3.0.conv1", "conv1"]


@pytest.mark.parametrize("layer", RESIDUAL)
def test_gradients_equal_the_tutorials_two_hooks(layer: str) -> None:
    model, images, classes = real("resnet18"), some_images(2), [4, 7]
    expected = oracles.tutorial(model, layer, images, classes)
    observed = explain(split(model, layer, SIZE), images, [0, 1], classes)
    assert_same(observed.gradients, expected.gradients, "gradients")
    assert_same(
        cam.normalize(cam.gradcam(observed.activations, observed.gradients)).heatmaps, expected.heatmaps, "heatmaps"
    )


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
def test_maps_equal_captums(architecture: str, layer: str) -> None:
    model, images, classes = real(architecture), some_images(2), [4, 7]
    reference = LayerGradCam(model, model.get_submodule(layer))
    theirs = reference.attribute(images.requires_grad_(), target=classes)[:, 0].detach()  # (B, 1, h, w) → (B, h, w)
    images = images.detach()
    observed = explain(split(model, layer, SIZE), images, [0, 1], classes)
    assert_same(cam.gradcam(observed.activations, observed.gradients), theirs, "maps")


def test_maps_equal_pytorch_grad_cams() -> None:
    from pytorch_grad_cam import GradCAM  # noqa: PLC0415 (slow to import)
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget  # noqa: PLC0415

    model, images, classes = real("resnet18"), some_images(2), [4, 7]
    observed = explain(split(model, "layer4.1.conv2", SIZE), images, [0, 1], classes)
    reference_model = copy.deepcopy(model).requires_grad_(True)
    target = reference_model.get_submodule("layer4.1.conv2")
    with GradCAM(model=reference_model, target_layers=[target]) as reference:
        logits = reference.activations_and_grads(images)
        sum(logits[row, index] for row, index in enumerate(classes)).backward()
        (activations,), (gradients,) = (
            reference.activations_and_grads.activations,
            reference.activations_and_grads.gradients,
        )
        goals = [ClassifierOutputTarget(index) for index in classes]
        theirs = reference.get_cam_image(images, target, goals, activations.numpy(), gradients.numpy())
    ours = cam.gradcam(observed.activations, observed.gradients)
    assert_same(ours, torch.as_tensor(theirs), "maps before normalization")


def test_default_layer_is_the_tutorials() -> None:
    assert default_layer(real("resnet18"), (64, 64)) == oracles.target_layer(real("resnet18")) == "layer4.1.conv2"


def test_no_hook_remains_and_the_network_is_unmodified() -> None:
    model = real("resnet18")
    images, weights = some_images(2), copy.deepcopy(model.state_dict())
    expected = model(images)
    parts = split(model, "layer4.1.conv2", SIZE)
    assert isinstance(parts.trunk, nn.Module)
    for module in (*model.modules(), *parts.trunk.modules(), *parts.head.modules()):
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
        assert not module._backward_hooks
    assert torch.equal(model(images), expected)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())


def test_unknown_layer_error_suggests_similar_names() -> None:
    with pytest.raises(UnknownName, match=r"'layer4\.1\.conv3'.*'layer4\.1\.conv2'") as caught:
        split(real("resnet18"), "layer4.1.conv3", SIZE)
    assert caught.value.code == "unknown_layer"


def test_layer_executed_twice_is_rejected() -> None:
    rejected(lambda m, x: m.end(m.layer(m.layer(m.first(x)))), "executed 2 times")
    with pytest.raises(SplitError, match=r"'layer4\.1\.relu'.* 2 times"):
        split(real("resnet18"), "layer4.1.relu", SIZE)


def test_layer_never_executed_is_rejected() -> None:
    rejected(lambda m, x: m.end(m.first(x)), "not executed")


def test_layer_whose_output_is_unused_is_rejected() -> None:
    def forward(m: Toy, x: Tensor) -> Tensor:
        h = m.first(x)
        m.layer(h)
        return m.end(h)

    rejected(forward)


def test_output_with_one_position_is_rejected() -> None:
    rejected(lambda m, x: m.end(m.layer(m.first(x).mean((2, 3), keepdim=True))), "must be a grid of positions")
    with pytest.raises(SplitError, match="must be a grid of positions"):
        split(real("resnet18"), "layer4.1.conv2", (32, 32))


def test_output_that_is_not_a_feature_map_is_rejected() -> None:
    rejected(
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
def test_network_that_does_not_return_logits_is_rejected(forward: Callable[[Toy, Tensor], Tensor]) -> None:
    rejected(forward)
