"""State dicts are read from files of every kind, and malicious files run no code."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save
from torch import Tensor, nn

from gradcam.network.architecture import NetworkError
from tests.support.state_dicts import STATE, assert_state, saved, written
from tools.archive.state_dict import read_state_dict, strip_prefixes

# torch warns about some of these files.
torch_may_warn = pytest.mark.filterwarnings("ignore::UserWarning:torch")


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("w.pt", saved(STATE)),
        ("w.pth", saved(STATE)),
        ("w.bin", saved(STATE)),
        ("w.pth", saved(STATE, _use_new_zipfile_serialization=False)),
        ("w.pth", saved({"state_dict": STATE, "epoch": 3})),
        ("w.pth", saved({"model": STATE, "optimizer": {"lr": 0.1}})),
        ("w.pth", saved({"model_state_dict": STATE, "epoch": 3})),
        ("w.pth", saved({name: nn.Parameter(tensor) for name, tensor in STATE.items()})),
    ],
    ids=["pt", "pth", "bin", "legacy", "state_dict", "model", "model_state_dict", "parameters"],
)
def test_state_dicts_are_read(tmp_path: Path, name: str, data: bytes) -> None:
    assert_state(read_state_dict(written(tmp_path / name, data)))


def test_safetensors_are_read(tmp_path: Path) -> None:
    loaded = read_state_dict(written(tmp_path / "w.safetensors", save(STATE)))
    assert_state({name: loaded[name] for name in STATE})
    assert len(loaded) == len(STATE)


@pytest.mark.parametrize("prefix", ["", "model.", "module.", "_orig_mod.", "model.module.", "module._orig_mod."])
def test_prefixes_are_stripped_if_the_names_then_fit(prefix: str) -> None:
    state, removed = strip_prefixes({prefix + name: tensor for name, tensor in STATE.items()}, STATE)
    assert_state(state)
    assert removed == prefix


def test_a_networks_own_prefix_is_kept() -> None:
    own = {f"model.{name}": tensor for name, tensor in STATE.items()}
    assert strip_prefixes(own, own) == (own, "")
    twice = {f"model.{name}": tensor for name, tensor in own.items()}
    state, removed = strip_prefixes(twice, own)
    assert (list(state), removed) == (list(own), "model.")


@pytest.mark.parametrize(
    "state",
    [
        {"module.fc.weight": torch.zeros(1), "fc.bias": torch.zeros(1)},
        {**{f"model.{name}": tensor for name, tensor in STATE.items()}, "criterion.weight": torch.zeros(1)},
        {f"model.{name}x": tensor for name, tensor in STATE.items()},
        {f"net.{name}": tensor for name, tensor in STATE.items()},
    ],
    ids=["some names", "another module", "other names", "unknown prefix"],
)
def test_prefixes_that_do_not_make_the_names_fit_are_kept(state: dict[str, Tensor]) -> None:
    assert strip_prefixes(state, STATE) == (state, "")


class Traced(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + 1


@torch_may_warn
@pytest.mark.filterwarnings("ignore:.torch.jit:")
def test_other_formats_are_named_with_what_to_do_instead(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.trace(Traced(), torch.zeros(1)), str(tmp_path / "traced.pt"))
    cases = {
        "traced.pt": "a TorchScript archive",
        "model.onnx": "an ONNX model",
        "renamed.pth": "an ONNX model",
        "whole.pth": "a pickle with the Python object torch.nn.modules.linear.Linear",
    }
    written(tmp_path / "model.onnx", b"whatever")
    written(tmp_path / "renamed.pth", b"\x08\x07\x12\x07pytorch\x1a\x051.0.0")
    written(tmp_path / "whole.pth", saved(nn.Linear(1, 1)))
    for name, kind in cases.items():
        with pytest.raises(NetworkError) as raised:
            read_state_dict(tmp_path / name)
        message = str(raised.value)
        assert message.startswith(f"{name} is not a state dict that can be read without running code ({kind}); ")
        assert "torch.save(model.state_dict(), …)" in message
        assert ("gradients of the PyTorch network" in message) is ("ONNX" in kind)


class Malicious:
    """Unpickling it creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., int], tuple[Any, ...]]:
        return os.open, (str(self.path), os.O_CREAT | os.O_WRONLY)


@torch_may_warn
@pytest.mark.parametrize(
    "wrap", [lambda value: value, lambda value: {**STATE, "x": value}], ids=["alone", "among tensors"]
)
@pytest.mark.parametrize(
    "dump",
    [pickle.dumps, saved, lambda value: saved(value, _use_new_zipfile_serialization=False)],
    ids=["pickle", "zip", "legacy"],
)
def test_code_in_a_pickle_is_not_run(
    tmp_path: Path, dump: Callable[[Any], bytes], wrap: Callable[[Malicious], Any]
) -> None:
    path = written(tmp_path / "w.pth", dump(wrap(Malicious(tmp_path / "owned"))))
    with pytest.raises(NetworkError, match=r"^w\.pth is not a state dict that can be read without running code"):
        read_state_dict(path)
    assert not (tmp_path / "owned").exists()


def test_the_malicious_pickle_is_malicious(tmp_path: Path) -> None:
    os.close(pickle.loads(pickle.dumps(Malicious(tmp_path / "owned"))))
    assert (tmp_path / "owned").exists()


GARBAGE = {
    "empty": b"",
    "text": b"hello world\n",
    "html": b"<html>404</html>",
    "json": b"{}",
    "png": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
    "zip": b"PK\x03\x04" + b"\0" * 40,
    "git lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
    "truncated": saved(STATE)[:400],
    "empty pickle stack": b"\x80\x02.",
    "zeros": b"\0" * 100,
    "full model": saved(nn.Linear(1, 1)),
}


@torch_may_warn
@pytest.mark.parametrize("name", ["w.pt", "w.pth", "w.safetensors"])
@pytest.mark.parametrize("data", GARBAGE.values(), ids=GARBAGE)
def test_garbage_is_rejected(tmp_path: Path, data: bytes, name: str) -> None:
    with pytest.raises(NetworkError) as raised:
        read_state_dict(written(tmp_path / name, data))
    assert str(raised.value).startswith(f"{name} is not a state dict")
    assert "torch.save(model.state_dict(), …)" in str(raised.value)


@torch_may_warn
@pytest.mark.parametrize("legacy", [False, True])
def test_damaged_files_are_rejected_or_read(tmp_path: Path, legacy: bool) -> None:
    intact = saved(STATE, _use_new_zipfile_serialization=not legacy)
    generator = torch.Generator().manual_seed(0)
    for _ in range(300):
        data = bytearray(intact)
        for position in torch.randint(len(data), (3,), generator=generator).tolist():
            data[position] = int(torch.randint(256, (), generator=generator))
        try:
            read_state_dict(written(tmp_path / "w.pth", bytes(data)))
        except NetworkError:
            continue


@pytest.mark.parametrize(
    "content",
    [
        {},
        [torch.zeros(1)],
        torch.zeros(1),
        {"a": 1},
        {"state_dict": {}},
        {"state_dict": None},
        {"a": torch.zeros(1), "b": "x"},
    ],
    ids=repr,
)
def test_contents_that_are_not_a_state_dict(tmp_path: Path, content: Any) -> None:
    with pytest.raises(NetworkError, match=r"^w\.pt contains no state dict, which maps names to tensors$"):
        read_state_dict(written(tmp_path / "w.pt", saved(content)))


def test_a_dict_without_names(tmp_path: Path) -> None:
    with pytest.raises(NetworkError, match=r"^w\.pt contains no state dict"):
        read_state_dict(written(tmp_path / "w.pt", saved({0: torch.zeros(1)})))


@pytest.mark.parametrize("name", ["nowhere.pt", "nowhere.safetensors"])
def test_a_missing_file(tmp_path: Path, name: str) -> None:
    with pytest.raises(NetworkError, match=f"^no such weights file: .*{name}$"):
        read_state_dict(tmp_path / name)


def test_a_folder(tmp_path: Path) -> None:
    with pytest.raises(NetworkError, match="is not a state dict"):
        read_state_dict(tmp_path)
