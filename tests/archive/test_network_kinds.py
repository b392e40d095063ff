"""`build_mar.py` with networks of one's own: their output, preprocessing, errors, and the closing summary."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load

from tools.archive import command

NETWORK = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, num_classes=3):
        super().__init__()
        self.last = nn.Conv2d(3, 4, 3, stride=4)
        self.fc = nn.Linear(4, num_classes)

    def forward(self, x):
        features = self.last(x).relu().mean((2, 3))
        return {output}
"""
STATED = ("--input-size", "16", "--mean", "0,0,0", "--std", "1,1,1")


class Building:
    """A folder with a network and its labels, in which the command runs."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.capsys = capsys
        self.labels("cat", "dog", "rat")
        self.network("self.fc(features)")

    def labels(self, *names: str) -> None:
        (self.folder / "labels.txt").write_text("\n".join(names))

    def network(self, output: str, text: str = NETWORK) -> None:
        (self.folder / "mine.py").write_text(text.replace("{output}", output))

    def __call__(self, *arguments: str, labels: bool = True) -> tuple[int, str, str]:
        files = ["--model-file", "mine.py", "--output", str(self.folder)]
        weights = () if "--weights" in arguments else ("--weights", "random")
        named = ("--labels", str(self.folder / "labels.txt")) if labels else ()
        status = command.main([*files, *weights, *named, *arguments])
        return status, *self.capsys.readouterr()

    def read(self, name: str) -> bytes:
        with zipfile.ZipFile(self.folder / "mine.mar") as archive:
            return archive.read(name)

    @property
    def settings(self) -> dict[str, Any]:
        block: dict[str, Any] = yaml.safe_load(self.read("model-config.yaml"))["gradcam"]
        return block


@pytest.fixture
def building(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Building:
    monkeypatch.chdir(tmp_path)
    return Building(tmp_path, capsys)


def test_the_summary_states_what_was_chosen(building: Building) -> None:
    building.network('{"features": features, "logits": self.fc(features)}')
    arguments = ("--input-size", "16x24", "--mean", "0,0.5,1", "--std", "1,1,1", "--activation", "sigmoid")

    status, out, err = building(*arguments, "--engine", "eager")

    assert (status, err) == (0, "")
    assert f"{building.folder / 'mine.mar'} (0 MB)" in out
    for line in (
        "layer          last (last convolution that runs)",
        f"classes        3, labels from {building.folder / 'labels.txt'}",
        "probabilities  output 'logits': sigmoid of each class (multi-label)",
        "input          16 × 24 pixels (height × width), squash",
        "mean           0,0.5,1",
        "std            1,1,1",
        "split          torch.fx",
        "engine         eager, float32",
        "Serve it:    scripts/serve.py mine.mar",
        "curl -T examples/chelsea.jpg http://127.0.0.1:8080/predictions/mine",
    ):
        assert line in out, line
    assert "ASSUMED" not in out
    expected = {"architecture": "mine", "logits": "logits", "activation": "sigmoid", "input_size": [16, 24]}
    assert {key: building.settings[key] for key in expected} == expected


def test_preprocessing_that_is_not_stated_is_assumed_loudly(building: Building) -> None:
    status, out, err = building("--input-size", "16")

    assert status == 0
    assert err.startswith("WARNING: how were the training images of mine.py prepared? Without --mean, --std, this")
    assert "--input-size 16 --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225" in err
    assert "mean           0.485,0.456,0.406 (ASSUMED: no --mean)" in out
    assert "std            0.229,0.224,0.225 (ASSUMED: no --std)" in out
    assert "ASSUMED: no --input-size" not in out


def test_a_single_logit_is_packed_with_two_labels(building: Building) -> None:
    building.network("self.fc(features)[:, 0]")
    building.labels("healthy", "ill")

    status, out, _ = building(*STATED)

    assert status == 0
    assert "classes        2, labels from" in out
    assert "two classes from a single logit z, as softmax of (-z/2, z/2)" in out
    expected = {"num_classes": 2, "class_scores": "single_logit", "activation": "softmax"}
    assert {key: building.settings[key] for key in expected} == expected
    assert json.loads(building.read("index_to_name.json")) == {"0": "healthy", "1": "ill"}


@pytest.mark.parametrize("prefix", ["model.", "module._orig_mod."])
def test_prefixes_of_training_tools_are_removed_and_said(building: Building, prefix: str) -> None:
    state = {"last.weight": (4, 3, 3, 3), "last.bias": (4,), "fc.weight": (3, 4), "fc.bias": (3,)}
    tensors = {name: torch.rand(shape) for name, shape in state.items()}
    weights = building.folder / "epoch3.ckpt"
    torch.save({"state_dict": {prefix + name: tensor for name, tensor in tensors.items()}, "epoch": 3}, weights)

    status, _, err = building("--weights", str(weights), *STATED)

    assert (status, err) == (0, f"Removed the prefix {prefix!r} from all names in epoch3.ckpt\n")
    packed = load(building.read("weights.safetensors"))
    assert packed.keys() == tensors.keys()
    assert all(torch.equal(packed[name], tensor) for name, tensor in tensors.items())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import torch\ndef create_model(:\n", "Model file failed: mine.py, line 2: SyntaxError: invalid syntax"),
        ("import torch\n\nx = 1 / 0\n", "Model file failed: mine.py, line 3: ZeroDivisionError: division by zero"),
        ("raise SystemExit(3)\n", "Model file failed: mine.py, line 1: SystemExit: 3"),
        (
            "import my_layers\n",
            "Model file failed: mine.py, line 1: ModuleNotFoundError: No module named 'my_layers'; an archive has only "
            "this file, so it may import installed packages only",
        ),
        (
            "def create_model(num_classes, depth):\n    return depth\n",
            "Model file failed: mine.py: TypeError: create_model() missing 1 required positional argument: 'depth'",
        ),
        (
            NETWORK.replace("{output}", "features.reshape(7)"),
            "The network cannot process images of 16 × 16 pixels (--input-size): mine.py, line 13: RuntimeError: "
            "shape '[7]' is invalid for input of size 4",
        ),
        (
            "import torch\n\ndef create_model():\n    return torch.jit.script(torch.nn.Linear(1, 1))\n",
            "mine.py must return the PyTorch network itself, got TorchScript, which hides the modules that a map needs",
        ),
    ],
    ids=["syntax", "import", "exit", "missing module", "arguments", "forward", "TorchScript"],
)
@pytest.mark.filterwarnings("ignore:.torch.jit:")
def test_errors_of_the_users_file_have_a_line_and_no_traceback(building: Building, text: str, message: str) -> None:
    building.network("", text)

    status, out, err = building(*STATED)

    assert (status, out) == (1, "")
    assert err == f"build_mar: {message}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--mean", "127.5,127.5,127.5"), "--mean must be between 0 and 1, {}, got 127.5: write 0.5, not 127.5"),
        (("--mean=-0.1,0,0",), "--mean must be between 0 and 1, {}, got -0.1"),
        (("--std", "0.5,0.5,51"), "--std must be between 0 and 1, {}, got 51: write 0.2, not 51"),
        (("--std", "0.5,0,0.5"), "--std must be between 0 and 1, {}, got 0; a standard deviation must not be 0"),
    ],
)
def test_mean_and_std_outside_of_0_to_1_are_rejected(
    building: Building, arguments: tuple[str, ...], message: str
) -> None:
    expected = message.format("for pixels between 0 and 1")
    assert building(*arguments) == (1, "", f"build_mar: {expected}\n")


@pytest.mark.parametrize("size", ["0", "64x", "x64", "64x0", "64X96", "64,96", "-64", "1e3"])
def test_sizes_that_are_none(building: Building, size: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        building(f"--input-size={size}")
    assert "write 224, or 64x96 for height x width" in capsys.readouterr().err


def test_an_architecture_or_a_file_is_required(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["--weights", "random"])
    assert "one of --arch and --model-file is required" in capsys.readouterr().err


def test_a_crop_is_larger_than_an_input_that_is_not_square(building: Building) -> None:
    status, *_ = building("--input-size", "32x64", "--transform", "crop", *STATED[2:])

    assert status == 0
    # 256 for 224, along the longer side.
    assert (building.settings["input_size"], building.settings["resize_size"]) == ([32, 64], 73)
