"""Architectures by name, and networks from a Python file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gradcam.network.architecture import NetworkError, architectures, build
from gradcam.network.target_layer import default_layer


def test_built_network_is_ready_for_inference() -> None:
    built = build("resnet18", 7)
    assert not built.training
    assert not any(parameter.requires_grad for parameter in built.parameters())
    assert built(torch.zeros(1, 3, 64, 64)).shape == (1, 7)


def test_architectures_are_classifiers() -> None:
    known = architectures()
    assert {"resnet18", "vgg16", "mobilenet_v3_small", "vit_b_16", "efficientnet_lite0"} <= set(known)
    assert not {"fcn_resnet50", "maskrcnn_resnet50_fpn", "raft_large", "r3d_18"} & set(known)
    assert known == sorted(known)


@pytest.mark.parametrize(
    ("name", "near"), [("resnet_18", "resnet18"), ("ResNet18", "resnet18"), ("fcn_resnet50", "resnet50")]
)
def test_unknown_architecture_error_suggests_similar_names(name: str, near: str) -> None:
    with pytest.raises(NetworkError, match=f"^Unknown architecture '{name}'; did you mean .*'{near}'"):
        build(name, 10)


def test_efficientnet_lite0_by_name() -> None:
    pytest.importorskip("efficientnet_lite_pytorch")
    built = build("efficientnet_lite0", 5)
    assert built(torch.zeros(1, 3, 64, 64)).shape == (1, 5)
    assert default_layer(built, (64, 64)) == "_conv_head"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("class A(nn.Module): pass\nclass B(nn.Module): pass", "got 2 classes"),
        ("x = 1", "got 0 classes"),
        ("def create_model(num_classes): return 3", "must return an nn.Module, got int"),
    ],
)
def test_invalid_model_file(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "mine.py").write_text(f"from torch import nn\n{text}\n")
    with pytest.raises(NetworkError, match=reason):
        build("mine", 4, tmp_path / "mine.py")
    with pytest.raises(NetworkError, match=r"Model file must be an existing Python file, got"):
        build("mine", 4, tmp_path / "other.py")


@pytest.mark.parametrize(
    "text",
    [
        "def create_model(num_classes): return nn.Linear(2, num_classes)",
        "class Net(nn.Linear):\n    def __init__(self, num_classes=3): super().__init__(2, num_classes)",
        "class Net(nn.Linear):\n    def __init__(self): super().__init__(2, 4)",
    ],
)
def test_network_from_a_model_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "mine.py").write_text(f"from torch import nn\n{text}\n")
    built = build("mine", 4, tmp_path / "mine.py")
    assert built(torch.zeros(1, 2)).shape == (1, 4)
    assert not built.training
    assert not any(parameter.requires_grad for parameter in built.parameters())
