"""Packed networks give what the network gives, and leave alone what they must."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from gradcam.engines import onednn
from gradcam.engines.engine import accelerate
from gradcam.engines.onednn import PackedConvolution
from gradcam.explain import cam
from gradcam.network import architecture as network
from gradcam.network.target_layer import default_layer
from gradcam.split.parts import Split
from gradcam.split.splitter import split
from tests.support import oracles


class Two(nn.Module):
    """Two convolutions, and a way to put them together that each test brings along."""

    def __init__(self, together: Callable[[Two, Tensor], Tensor], **second: object) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.second = nn.Conv2d(8, 8, 3, **{"padding": 1, **second})  # type: ignore[arg-type]
        self.relu = nn.ReLU(inplace=True)
        self.together = together

    def forward(self, images: Tensor) -> Tensor:
        return self.together(self, images)


def residual(net: Two, images: Tensor) -> Tensor:
    stem = net.relu(net.norm(net.first(images)))
    return net.relu(net.second(stem) + stem)


def summand_computed_later(net: Two, images: Tensor) -> Tensor:
    stem = net.first(images)
    return net.second(stem) + stem.sigmoid()


def summand_changed_in_place(net: Two, images: Tensor) -> Tensor:
    stem = net.norm(net.first(images))
    out = net.second(stem)
    stem.relu_()
    return out + stem


def summand_smaller(net: Two, images: Tensor) -> Tensor:
    stem = net.first(images)
    mean = stem.mean((2, 3), keepdim=True)
    return net.second(stem) + mean


def three_summands(net: Two, images: Tensor) -> Tensor:
    stem = net.first(images)
    double = 2 * stem
    return net.second(stem) + stem + double


def doubled(net: Two, images: Tensor) -> Tensor:
    out = net.second(net.first(images))
    return out + out


def twice(net: Two, images: Tensor) -> Tensor:
    once = net.second(net.first(images))
    return net.second(once.relu()).relu() + once


def read_before_the_relu(net: Two, images: Tensor) -> Tensor:
    out = net.second(net.first(images))
    return functional.relu(out) - out


def a_number_added(net: Two, images: Tensor) -> Tensor:
    return functional.relu(input=net.second(net.first(images)) + 1.5)


def scaled_sum(net: Two, images: Tensor) -> Tensor:
    stem = net.first(images)
    return torch.add(stem, net.second(stem), alpha=2)


def limited(net: Two, images: Tensor) -> Tensor:
    return functional.hardswish(net.second(functional.relu6(net.norm(net.first(images)))))


def limited_after_an_addition(net: Two, images: Tensor) -> Tensor:
    stem = net.first(images)
    return functional.relu6(net.second(stem) + stem)


def limited_twice(net: Two, images: Tensor) -> Tensor:
    return functional.hardswish(functional.relu6(net.second(net.first(images))))


# How each is put together, and what is left of it beside the packed convolutions.
CASES: list[tuple[Callable[[Two, Tensor], Tensor], list[str]]] = [
    (residual, []),
    (summand_computed_later, ["sigmoid", "add"]),
    (summand_changed_in_place, ["relu_", "add"]),
    (summand_smaller, ["mean", "add"]),
    (three_summands, ["mul", "add"]),
    (doubled, ["add"]),
    (twice, ["relu", "add"]),
    (read_before_the_relu, ["relu", "sub"]),
    (a_number_added, ["add", "relu"]),
    (scaled_sum, ["add"]),
    (limited, []),
    (limited_after_an_addition, ["relu6"]),
    (limited_twice, ["hardswish"]),
]


def packed(model: nn.Module, size: int = 9) -> tuple[fx.GraphModule, Tensor, Tensor]:
    """Returns the packed model, images (2, 3, size, size), and what the model itself makes of them."""
    oracles.seeded(model, seed=3)
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(4))
    images = images.contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        return onednn.pack(fx.symbolic_trace(model), images[:1]), images, model(images)


def left(graph_module: fx.GraphModule) -> list[str]:
    """Returns what is called beside packed convolutions, in order."""
    calls = [node for node in graph_module.graph.nodes if node.op.startswith("call")]
    return [
        getattr(node.target, "__name__", str(node.target))
        for node in calls
        if node.op != "call_module" or not isinstance(graph_module.get_submodule(node.target), PackedConvolution)
    ]


@pytest.mark.parametrize(("together", "rest"), CASES, ids=lambda case: getattr(case, "__name__", ""))
def test_what_follows_a_convolution_is_done_with_it_where_that_is_the_same(
    together: Callable[[Two, Tensor], Tensor], rest: list[str]
) -> None:
    model, images, expected = packed(Two(together))
    with torch.inference_mode():
        torch.testing.assert_close(model(images), expected, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(model(images), expected, rtol=1e-5, atol=1e-5)  # the first has changed nothing
    assert left(model) == rest
    assert not any(isinstance(module, nn.Conv2d) for module in model.modules())


def norms_behind_one_convolution(net: Two, images: Tensor) -> Tensor:
    once = net.norm(net.second(net.first(images)))
    return net.other_norm(net.second(once))  # type: ignore[operator]


def test_two_norms_behind_a_convolution_that_is_called_twice() -> None:
    net = Two(norms_behind_one_convolution)
    net.other_norm = nn.BatchNorm2d(8)
    model, images, expected = packed(net)
    torch.testing.assert_close(model(images), expected, rtol=1e-5, atol=1e-5)
    assert left(model) == []


@pytest.mark.parametrize(
    "second",
    [{"padding": "same"}, {"padding_mode": "reflect"}, {"stride": 2, "dilation": 2, "groups": 4, "bias": False}],
)
def test_kinds_of_convolutions(second: dict[str, object]) -> None:
    def chain(net: Two, images: Tensor) -> Tensor:
        return net.relu(net.second(net.relu(net.norm(net.first(images)))))

    model, images, expected = packed(Two(chain, **second))
    torch.testing.assert_close(model(images), expected, rtol=1e-5, atol=1e-5)
    plain = isinstance(second.get("padding"), str) or "padding_mode" in second
    assert left(model) == (["second", "relu"] if plain else [])


class Own(nn.Conv2d):
    """A convolution made from torch's, as networks from TensorFlow have it: what pads is a module of its own."""

    def __init__(self, zeros: tuple[int, int, int, int], **options: object) -> None:
        super().__init__(8, 8, **{"kernel_size": 3, **options})  # type: ignore[arg-type]
        self.zeros = nn.ZeroPad2d(zeros)

    def forward(self, images: Tensor) -> Tensor:
        return functional.conv2d(
            self.zeros(images), self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups
        )


def through(net: Two, images: Tensor) -> Tensor:
    return net.relu(net.second(net.norm(net.first(images))))


@pytest.mark.parametrize(
    ("zeros", "options", "rest"),
    [
        ((1, 1, 1, 1), {}, []),
        ((0, 1, 0, 1), {"stride": 2}, []),
        ((2, 0, 1, 3), {"stride": (2, 1), "padding": (1, 0), "bias": False}, []),
        ((1, 2, 1, 2), {"kernel_size": 5, "groups": 8}, []),
        ((0, 1, 0, 1), {"dilation": 2}, ["second.zeros"]),
        ((1, -1, 1, 1), {}, ["second.zeros"]),
    ],
)
@pytest.mark.parametrize("size", [9, 12])
def test_a_convolution_that_pads_by_a_module(
    zeros: tuple[int, int, int, int], options: dict[str, object], rest: list[str], size: int
) -> None:
    net = Two(through)
    net.second = Own(zeros, **options)
    model, images, expected = packed(net, size)
    torch.testing.assert_close(model(images), expected, rtol=1e-5, atol=1e-5)
    assert left(model) == rest
    assert sum(isinstance(module, PackedConvolution) for module in model.modules()) == 2


def called_twice(net: Two, images: Tensor) -> Tensor:
    stem = net.first(images)
    return net.norm(net.second(net.zeros(net.second(net.zeros(stem)))))  # type: ignore[operator]


def called_without_padding(net: Two, images: Tensor) -> Tensor:
    return net.second(net.relu(net.second(net.zeros(net.first(images)))))  # type: ignore[operator]


def changed_after_padding(net: Two, images: Tensor) -> Tensor:
    stem = net.first(images)
    padded = net.zeros(stem)  # type: ignore[operator]
    stem.relu_()
    return net.second(padded)[:, :, 1:-1, 1:-1] + stem


def padded_for_another(net: Two, images: Tensor) -> Tensor:
    padded = net.zeros(net.first(images))  # type: ignore[operator]
    return net.second(padded) + padded


@pytest.mark.parametrize(
    ("together", "rest"),
    [
        (called_twice, []),
        (called_without_padding, []),
        (changed_after_padding, ["zeros", "relu_", "getitem", "add"]),
        (padded_for_another, ["zeros"]),
    ],
)
def test_padding_is_taken_out_of_one_call_only(together: Callable[[Two, Tensor], Tensor], rest: list[str]) -> None:
    net = Two(together)
    net.zeros = nn.ZeroPad2d(1)
    model, images, expected = packed(net)
    torch.testing.assert_close(model(images), expected, rtol=1e-5, atol=1e-5)
    assert left(model) == rest


def computed_weight(net: Two, images: Tensor) -> Tensor:
    return functional.conv2d(net.first(images), 2 * net.second.weight, None, (1, 1), (1, 1), (1, 1), 1)


def computed_bias(net: Two, images: Tensor) -> Tensor:
    negative = -net.second.bias  # type: ignore[operator]
    return functional.conv2d(net.first(images), net.second.weight, negative, (1, 1), (1, 1), (1, 1), 1)


def computed_padding(net: Two, images: Tensor) -> Tensor:
    padding = (images.shape[2] // 5, 1)
    return functional.conv2d(net.first(images), net.second.weight, None, (1, 1), padding, (1, 1), 1)


def by_name(net: Two, images: Tensor) -> Tensor:
    return functional.conv2d(net.first(images), net.second.weight, padding=1)


@pytest.mark.parametrize(
    ("together", "rest"),
    [
        (computed_weight, ["mul", "conv2d"]),
        (computed_bias, ["neg", "conv2d"]),
        (computed_padding, ["getattr", "getitem", "floordiv", "conv2d"]),
        (by_name, ["conv2d"]),
    ],
)
def test_calls_that_are_left_alone(together: Callable[[Two, Tensor], Tensor], rest: list[str]) -> None:
    model, images, expected = packed(Two(together))
    torch.testing.assert_close(model(images), expected, rtol=1e-5, atol=1e-5)
    assert left(model) == rest


def test_weights_that_two_share() -> None:
    def shared(net: Two, images: Tensor) -> Tensor:
        stem = functional.conv2d(net.first(images), net.second.weight, net.second.bias, (1, 1), (1, 1), (1, 1), 1)
        return net.norm(functional.conv2d(stem, net.second.weight, None, (1, 1), (1, 1), (1, 1), 1))

    model, images, expected = packed(Two(shared))
    torch.testing.assert_close(model(images), expected, rtol=1e-5, atol=1e-5)
    assert left(model) == []


def test_batches_and_images_of_other_sizes() -> None:
    model, _, _ = packed(plain := Two(residual))
    for shape in ((1, 3, 30, 17), (9, 3, 5, 64)):
        images = torch.randn(shape, generator=torch.Generator().manual_seed(5))
        torch.testing.assert_close(model(images), plain(images), rtol=1e-5, atol=1e-5)


def test_the_network_stays_as_it_is() -> None:
    plain = oracles.seeded(Two(residual), seed=3)
    before = {name: value.clone() for name, value in plain.state_dict().items()}
    packed(plain)
    assert all(torch.equal(value, before[name]) for name, value in plain.state_dict().items())
    assert isinstance(plain.first, nn.Conv2d)


def test_a_resnet_is_convolutions_and_little_else() -> None:
    model, images, expected = packed(network.build("resnet18", 10), size=64)
    torch.testing.assert_close(model(images), expected, rtol=1e-4, atol=1e-4)
    assert left(model) == ["maxpool", "avgpool", "flatten", "fc"]


@pytest.mark.parametrize(
    ("architecture", "rest"), [("efficientnet_lite0", ["size", "_conv_head"]), ("mobilenet_v2", [])]
)
def test_a_mobile_network_is_convolutions_and_little_else(architecture: str, rest: list[str]) -> None:
    net = network.build(architecture, 10)
    parts = split(oracles.seeded(net, seed=3), default_layer(net, (224, 224)), (224, 224))
    assert isinstance(parts.trunk, fx.GraphModule)
    images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(4))
    exact = copy.deepcopy(parts.trunk).double()(images.double())[0]
    model = onednn.pack(parts.trunk, images[:1])
    ours, theirs = [float((run(images)[0] - exact).abs().max()) for run in (model, parts.trunk)]
    assert ours <= 2 * theirs < 1e-4 * float(exact.abs().max())
    assert left(model) == rest
    assert not any(node.op == "get_attr" for node in model.graph.nodes)


@pytest.mark.slow
def test_maps_are_as_near_to_exact_arithmetic_as_the_networks_own() -> None:
    layer, classes = "layer4.1.conv2", [0, 4, 5, 66, 566, 999]
    resnet = oracles.seeded(network.build("resnet18", 1000))
    images = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(3)) * 4 - 2
    repeated = images.expand(len(classes), -1, -1, -1)  # (1, 3, H, W) → (N, 3, H, W)
    exact = oracles.tutorial(copy.deepcopy(resnet).double(), layer, repeated.double(), classes).heatmaps  # (N, h, w)

    def error(parts: Split) -> float:
        with torch.inference_mode():
            features = parts.features(images.contiguous(memory_format=torch.channels_last))
        rows = features.rows(torch.zeros(len(classes), dtype=torch.long))
        gradients = parts.gradients(rows, lambda logits: logits[range(len(classes)), classes])
        heatmaps = cam.normalize(cam.gradcam(parts.activations(rows), gradients)).heatmaps
        return float((heatmaps - exact).abs().max())

    parts = split(resnet, layer, (224, 224))
    packed_parts = accelerate(parts, "eager", "float32", images)
    assert isinstance(packed_parts.trunk, fx.GraphModule)
    assert any(isinstance(module, PackedConvolution) for module in packed_parts.trunk.modules())
    assert error(packed_parts) <= max(2 * error(parts), 2e-5) < 1e-4
