"""Loading weights, and weights that do not fit."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from gradcam.network.architecture import NetworkError
from gradcam.network.weights import load_state_dict, load_weights


def small() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))


def changed(**changes: Tensor | None) -> dict[str, Tensor]:
    """Return a state dict of `small` with some names (`_` for `.`) replaced, added, or removed."""
    state = dict(small().state_dict())
    for name, tensor in changes.items():
        if tensor is None:
            del state[name.replace("_", ".", 1)]
        else:
            state[name.replace("_", ".", 1)] = tensor
    return state


def rejected(state_dict: dict[str, Tensor]) -> str:
    model = small()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(NetworkError) as raised:
        load_state_dict(model, state_dict, "some.pth")
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    return str(raised.value)


def test_state_dict_is_loaded() -> None:
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
    assert rejected(changed(**{"3_weight": None})) == "some.pth does not fit the network (missing: 3.weight)"


def test_unexpected_names() -> None:
    message = rejected(changed(extra=torch.zeros(1)))
    assert message == "some.pth does not fit the network (unexpected: extra)"


def test_wrong_shapes() -> None:
    message = rejected(changed(**{"3_weight": torch.zeros(5, 4), "3_bias": torch.zeros(5)}))
    assert message == (
        "some.pth does not fit the network (wrong shape: "
        "3.weight (5, 4) instead of (2, 4), 3.bias (5,) instead of (2,))"
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_are_not_finite(value: float) -> None:
    message = rejected(changed(**{"3_bias": torch.tensor([0, value])}))
    assert message == "some.pth does not fit the network (NaN or infinite: 3.bias)"


def test_long_lists_of_differences_are_shortened() -> None:
    assert rejected({"1.num_batches_tracked": torch.tensor(0), "a": torch.zeros(1)}) == (
        "some.pth does not fit the network (missing: 0.weight, 0.bias, 1.weight and 5 more; unexpected: a)"
    )


def test_checkpoint_without_batch_counts() -> None:
    """Old checkpoints such as torchvision's resnet18-5c106cde.pth lack them; inference does not use them."""
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


def test_loaded_weights_stay_mapped_to_the_file(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file({"weight": torch.randn(512, 1024), "bias": torch.randn(512)}, path)
    network = nn.Linear(1024, 512)

    load_weights(network, path, hashlib.sha256(path.read_bytes()).hexdigest())

    address = network.weight.data_ptr()
    mappings = [line.split() for line in Path("/proc/self/maps").read_text().splitlines() if line.endswith(str(path))]
    ranges = [tuple(int(bound, 16) for bound in fields[0].split("-")) for fields in mappings]
    assert any(low <= address < high for low, high in ranges)
