"""Labels in every form, the target layer, and weights that do not fit."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from gradcam.errors import UnknownName
from gradcam.network import architecture as network
from gradcam.network.architecture import NetworkError
from gradcam.network.labels import Labels
from gradcam.network.target_layer import check_layer, default_layer
from gradcam.network.weights import load_state_dict, load_weights


def small() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))


# ----------------------------------------------------------------------------- architecture


def test_build_is_ready_for_inference() -> None:
    built = network.build("resnet18", 7)
    assert not built.training
    assert not any(parameter.requires_grad for parameter in built.parameters())
    assert built(torch.zeros(1, 3, 64, 64)).shape == (1, 7)


def test_architectures_are_classifiers() -> None:
    known = network.architectures()
    assert {"resnet18", "vgg16", "mobilenet_v3_small", "vit_b_16", "efficientnet_lite0"} <= set(known)
    assert not {"fcn_resnet50", "maskrcnn_resnet50_fpn", "raft_large", "r3d_18"} & set(known)
    assert known == sorted(known)


@pytest.mark.parametrize(
    ("name", "near"), [("resnet_18", "resnet18"), ("ResNet18", "resnet18"), ("fcn_resnet50", "resnet50")]
)
def test_an_unknown_architecture_is_told_the_near_names(name: str, near: str) -> None:
    with pytest.raises(NetworkError, match=f"^Unknown architecture '{name}'; did you mean .*'{near}'"):
        network.build(name, 10)


def test_efficientnet_lite0_by_name() -> None:
    pytest.importorskip("efficientnet_lite_pytorch")
    built = network.build("efficientnet_lite0", 5)
    assert built(torch.zeros(1, 3, 64, 64)).shape == (1, 5)
    assert default_layer(built, (64, 64)) == "_conv_head"


# ----------------------------------------------------------------------------- target layer


class SqueezeAndExcitation(nn.Module):
    """Its last two convolutions are executed on one position; another one is registered last and never executed."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=4)
        self.squeeze = nn.Conv2d(8, 2, 1)
        self.excite = nn.Conv2d(2, 8, 1)
        self.fc = nn.Linear(8, 5)
        self.auxiliary = nn.Conv2d(8, 8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = x * self.excite(self.squeeze(x.mean((2, 3), keepdim=True)).relu()).sigmoid()
        return self.fc(x.mean((2, 3)))


class Branches(nn.Module):
    """The last convolution gives 4 of the 12 channels that the classifier sees."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Conv2d(3, 8, 3, stride=4)
        self.right = nn.Conv2d(3, 4, 3, stride=4)
        self.norm = nn.BatchNorm2d(12)
        self.fc = nn.Linear(12, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.norm(torch.cat([self.left(x), self.right(x)], 1)).mean((2, 3)))


@pytest.mark.parametrize(("model", "layer"), [(SqueezeAndExcitation, "stem"), (Branches, "norm")])
def test_the_default_layer_is_the_last_that_sees_it_all(model: type[nn.Module], layer: str) -> None:
    built = model().eval().requires_grad_(False)
    assert default_layer(built, (64, 64)) == layer
    assert not any(module._forward_hooks for module in built.modules())


def test_a_network_without_a_grid_has_no_default_layer() -> None:
    with pytest.raises(NetworkError, match=r"No layer's output is a grid of positions on the image"):
        default_layer(nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 2)), (8, 8))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("class A(nn.Module): pass\nclass B(nn.Module): pass", "got 2 classes"),
        ("x = 1", "got 0 classes"),
        ("def create_model(num_classes): return 3", "must return an nn.Module, got int"),
    ],
)
def test_what_is_no_model_file(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "mine.py").write_text(f"from torch import nn\n{text}\n")
    with pytest.raises(NetworkError, match=reason):
        network.build("mine", 4, tmp_path / "mine.py")
    with pytest.raises(NetworkError, match=r"Model file must be an existing Python file, got"):
        network.build("mine", 4, tmp_path / "other.py")


@pytest.mark.parametrize(
    "text",
    [
        "def create_model(num_classes): return nn.Linear(2, num_classes)",
        "class Net(nn.Linear):\n    def __init__(self, num_classes=3): super().__init__(2, num_classes)",
        "class Net(nn.Linear):\n    def __init__(self): super().__init__(2, 4)",
    ],
)
def test_a_network_of_ones_own(tmp_path: Path, text: str) -> None:
    (tmp_path / "mine.py").write_text(f"from torch import nn\n{text}\n")
    built = network.build("mine", 4, tmp_path / "mine.py")
    assert built(torch.zeros(1, 2)).shape == (1, 4)
    assert not built.training
    assert not any(parameter.requires_grad for parameter in built.parameters())


def test_check_layer() -> None:
    built = network.build("resnet18", 10)
    check_layer(built, "layer4.1.conv2")
    check_layer(built, "layer4")
    with pytest.raises(UnknownName) as raised:
        check_layer(built, "layer4.1.conv9")
    assert (raised.value.code, raised.value.status) == ("unknown_layer", 422)
    assert str(raised.value).startswith("Unknown layer 'layer4.1.conv9'; did you mean 'layer4.1.conv")
    with pytest.raises(UnknownName):
        check_layer(built, "")


# ----------------------------------------------------------------------------- weights


def changed(**changes: Tensor | None) -> dict[str, Tensor]:
    """Returns a state dict of `small` in which the names given (`_` for `.`) are replaced, added or taken out."""
    state = dict(small().state_dict())
    for name, tensor in changes.items():
        if tensor is None:
            del state[name.replace("_", ".", 1)]
        else:
            state[name.replace("_", ".", 1)] = tensor
    return state


def refused(state_dict: dict[str, Tensor]) -> str:
    model = small()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(NetworkError) as raised:
        load_state_dict(model, state_dict, "some.pth")
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    return str(raised.value)


def test_a_state_dict_is_loaded() -> None:
    source, target = small(), small()
    load_state_dict(target, source.state_dict(), "some.pth")
    for name, tensor in target.state_dict().items():
        assert torch.equal(tensor, source.state_dict()[name])


def test_half_precision_is_loaded_as_float32() -> None:
    target = small()
    halves = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in changed().items()}
    load_state_dict(target, halves, "some.pth")
    loaded = target.state_dict()["0.weight"]
    assert loaded.dtype == torch.float32
    assert torch.equal(loaded, halves["0.weight"].float())


def test_missing_names() -> None:
    assert refused(changed(**{"3_weight": None})) == "some.pth does not fit the network (missing: 3.weight)"


def test_unknown_names() -> None:
    message = refused(changed(extra=torch.zeros(1)))
    assert message == "some.pth does not fit the network (unexpected: extra)"


def test_other_shapes() -> None:
    message = refused(changed(**{"3_weight": torch.zeros(5, 4), "3_bias": torch.zeros(5)}))
    assert message == (
        "some.pth does not fit the network (wrong shape: "
        "3.weight (5, 4) instead of (2, 4), 3.bias (5,) instead of (2,))"
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_are_none(value: float) -> None:
    message = refused(changed(**{"3_bias": torch.tensor([0, value])}))
    assert message == "some.pth does not fit the network (NaN or infinite: 3.bias)"


def test_many_differences_are_shortened() -> None:
    assert refused({"1.num_batches_tracked": torch.tensor(0), "a": torch.zeros(1)}) == (
        "some.pth does not fit the network (missing: 0.weight, 0.bias, 1.weight and 5 more; unexpected: a)"
    )


def test_a_checkpoint_from_before_batches_were_counted() -> None:
    """Such as torchvision's own resnet18-5c106cde.pth; torch loads it, and the count is not used in inference."""
    old = changed(**{"1_num_batches_tracked": None})
    small().load_state_dict(old)
    target = small()
    load_state_dict(target, old, "resnet18-5c106cde.pth")
    assert torch.equal(target.state_dict()["3.weight"], old["3.weight"])


def test_load_weights_reads_safetensors(tmp_path: Path) -> None:
    source, target = small(), small()
    path = tmp_path / "weights.safetensors"
    save_file(dict(source.state_dict()), path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    load_weights(target, path, digest)
    assert torch.equal(target.state_dict()["3.weight"], source.state_dict()["3.weight"])
    with pytest.raises(NetworkError, match=r"^weights.safetensors does not fit the network"):
        load_weights(nn.Linear(1, 1), path, digest)
    with pytest.raises(NetworkError, match=r"^weights.safetensors is damaged: its SHA-256 differs"):
        load_weights(target, path, "0" * 64)


# ----------------------------------------------------------------------------- labels


def read(folder: Path, name: str, content: str | bytes | object) -> tuple[str, ...]:
    """Writes the content (JSON, if it is neither text nor bytes) and reads it as labels."""
    if not isinstance(content, str | bytes):
        content = json.dumps(content)
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return Labels.read(folder / name).names


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("l.txt", "tench\nmüsli\ncrane, bird\n"),
        ("l.txt", "tench\nmüsli\ncrane, bird"),
        ("l.txt", "tench\r\nmüsli\r\ncrane, bird\r\n"),
        ("l.txt", " tench \nmüsli\t\n  crane, bird\n"),
        ("l.txt", b"\xef\xbb\xbf" + "tench\r\nmüsli\r\ncrane, bird".encode()),
        ("labels", "tench\nmüsli\ncrane, bird"),
        ("l.json", ["tench", "müsli", "crane, bird"]),
        ("l.json", [["n01", "tench"], ["n02", "müsli"], ["n03", "crane, bird"]]),
        ("l.json", {"0": "tench", "1": "müsli", "2": "crane, bird"}),
        ("l.json", {"2": "crane, bird", "0": "tench", "1": "müsli"}),
        ("l.json", {"0": ["n01", "tench"], "1": ["n02", "müsli"], "2": ["n03", "crane, bird"]}),
        ("l.json", b"\xef\xbb\xbf" + '["tench", "müsli", "crane, bird"]'.encode()),
    ],
)
def test_labels_are_read_in_every_form(tmp_path: Path, name: str, content: object) -> None:
    assert read(tmp_path, name, content) == ("tench", "müsli", "crane, bird")


def test_more_than_ten_labels_stay_in_order(tmp_path: Path) -> None:
    names = tuple(f"class {index}" for index in range(12))
    assert read(tmp_path, "l.json", {str(index): name for index, name in enumerate(names)}) == names


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("l.txt", "", "must have a name for every class"),
        ("l.txt", "a\n\nb\n", "none of them empty"),
        ("l.txt", b"\xff\xfea\0", "Cannot read labels file l.txt"),
        ("l.json", "", "Cannot read labels file l.json"),
        ("l.json", "{", "Cannot read labels file l.json"),
        ("l.json", [], "must have a name for every class"),
        ("l.json", {}, "must have a name for every class"),
        ("l.json", ["a", " "], "none of them empty"),
        ("l.json", ["a", 1], "must have a string as the name of every class"),
        ("l.json", ["a", None], "must have a string as the name of every class"),
        ("l.json", [["n01", 1]], "must have a string as the name of every class"),
        ("l.json", [[]], "must have a string as the name of every class"),
        ("l.json", {"0": {"name": "a"}}, "must have a string as the name of every class"),
        ("l.json", {"0": "a", "2": "b"}, "must have the keys 0 to 1, but 1 is missing"),
        ("l.json", {"1": "a", "2": "b"}, "must have the keys 0 to 1, but 0 is missing"),
        ("l.json", {"tench": 0}, "must have the keys 0 to 0, but 0 is missing"),
        ("l.json", "5", "must be a JSON list of names"),
        ("l.json", '"tench"', "must be a JSON list of names"),
        ("l.json", "null", "must be a JSON list of names"),
    ],
    ids=str,
)
def test_what_is_no_labels_file(tmp_path: Path, name: str, content: object, said: str) -> None:
    with pytest.raises(NetworkError) as raised:
        read(tmp_path, name, content)
    assert said in str(raised.value)
    assert name in str(raised.value)


@pytest.mark.parametrize("name", ["nowhere.txt", "nowhere.json", "."])
def test_a_labels_file_that_cannot_be_opened(tmp_path: Path, name: str) -> None:
    with pytest.raises(NetworkError, match="Cannot read labels file"):
        Labels.read(tmp_path / name)


LABELS = Labels(("tabby", "Egyptian cat", "crane", "hen", "crane", "Hen", "MÜSLI"))


@pytest.mark.parametrize(
    ("target", "index"),
    [(0, 0), (6, 6), (2, 2), ("tabby", 0), ("TABBY", 0), ("egyptian CAT", 1), ("hen", 3), ("Hen", 5), ("müsli", 6)],
)
def test_a_class_by_index_or_label(target: int | str, index: int) -> None:
    assert LABELS.index(target) == index


def unknown(target: int | str) -> UnknownName:
    with pytest.raises(UnknownName) as raised:
        LABELS.index(target)
    assert raised.value.status == 422
    return raised.value


@pytest.mark.parametrize("target", [7, -1, 10**30])
def test_an_index_outside(target: int) -> None:
    error = unknown(target)
    assert error.code == "unknown_class"
    assert str(error) == f"Class index must be between 0 and 6, got {target}"


@pytest.mark.parametrize(("target", "indices"), [("crane", "2 and 4"), ("CRANE", "2 and 4"), ("HEN", "3 and 5")])
def test_a_label_of_two_classes_lists_both(target: str, indices: str) -> None:
    error = unknown(target)
    assert error.code == "ambiguous_class"
    assert str(error) == f"Label {target!r} is ambiguous: classes {indices} have it; send an index"


def test_an_unknown_label_is_told_the_near_names() -> None:
    error = unknown("tabbi cat")
    assert error.code == "unknown_class"
    assert str(error).startswith("Unknown label 'tabbi cat'; did you mean ")
    assert "'tabby'" in str(error)
    assert str(unknown("egypt cat")).endswith("did you mean 'Egyptian cat'?")
    assert str(unknown("qqqq")) == "Unknown label 'qqqq'"


@pytest.mark.parametrize("target", ["x" * 1_000_000, "\ud800", "\0"], ids=["long", "surrogate", "nul"])
def test_strange_labels_are_unknown(target: str) -> None:
    assert len(str(unknown(target))) < 1000
