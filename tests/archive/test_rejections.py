"""What `build_mar.py` rejects: exit status 1, the reason on standard error, nothing written anywhere."""

from __future__ import annotations

import os
import pickle
import shutil
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor

from gradcam.engines import graph
from gradcam.split.parts import Trunk
from tests.support.own_network import OwnNetwork
from tools.archive import command, download
from tools.archive.build import Build, build

GOOD_ARCHIVE = b"an archive that was good"


class Code:
    """Unpickling it runs a command."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.witness),)


class Rejection:
    """Run the command and check what all rejections have in common."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.output = folder / "out"
        self.temporary = folder / "tmp"
        self.capsys = capsys
        self.output.mkdir()
        self.temporary.mkdir()
        for name in ("resnet18", "mine"):
            (self.output / f"{name}.mar").write_bytes(GOOD_ARCHIVE)

    def __call__(self, *arguments: str | Path) -> str:
        """Return the command's message, in one line."""
        self.capsys.readouterr()
        status = command.main([str(argument) for argument in (*arguments, "--output", self.output)])
        out, err = self.capsys.readouterr()
        assert status == 1
        assert out == ""
        message = [line for line in err.splitlines() if line.startswith("build_mar: ")]
        assert len(message) == 1, err
        assert "Traceback" not in err
        self.check_nothing_written()
        return message[0]

    def check_nothing_written(self) -> None:
        assert {path.name: path.read_bytes() for path in self.output.iterdir()} == {
            "resnet18.mar": GOOD_ARCHIVE,
            "mine.mar": GOOD_ARCHIVE,
        }
        assert list(self.temporary.iterdir()) == []


@pytest.fixture
def rejected(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Rejection:
    rejection = Rejection(tmp_path, capsys)
    monkeypatch.setattr(tempfile, "tempdir", str(rejection.temporary))
    monkeypatch.setenv("TMPDIR", str(rejection.temporary))
    return rejection


# ----------------------------------------------------------------------------- names


def test_unknown_architecture(rejected: Rejection) -> None:
    message = rejected("--arch", "resnet81", "--weights", "random")

    assert "'resnet81'" in message
    assert "'resnet18'" in message


@pytest.mark.parametrize("weights", ["default", "random"])
def test_architecture_that_is_no_classifier(rejected: Rejection, weights: str) -> None:
    assert "'fcn_resnet50'" in rejected("--arch", "fcn_resnet50", "--weights", weights)


def test_unknown_layer_names_near_ones(rejected: Rejection) -> None:
    message = rejected("--arch", "resnet18", "--weights", "random", "--layer", "layer4.1.conv3")

    assert "'layer4.1.conv3'" in message
    assert "'layer4.1.conv2'" in message


def test_layer_without_positions(rejected: Rejection) -> None:
    message = rejected("--arch", "resnet18", "--weights", "random", "--layer", "avgpool")

    assert "'avgpool'" in message


@pytest.mark.parametrize("name", ["two words", "ünï", "-x", ".x", "a:b", "a?b", "a/b", "../a", "x/../mine", "a\nb"])
def test_name_that_fits_no_url(rejected: Rejection, name: str) -> None:
    message = rejected("--arch", "resnet18", "--weights", "random", f"--name={name}")

    assert repr(name) in message


# ----------------------------------------------------------------------------- weights


def text_file(path: Path) -> None:
    path.write_text("these are no weights\n")


def jpeg_header(path: Path) -> None:
    path.write_bytes(b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01" + bytes(range(256)))


def other_text(path: Path) -> None:
    path.write_text('{"0": "ant"}\n')


def empty_file(path: Path) -> None:
    path.touch()


def state_of_a_resnet34(path: Path) -> None:
    torch.save(torchvision.models.resnet34().state_dict(), path)


def state_of_a_squeezenet(path: Path) -> None:
    torch.save(torchvision.models.squeezenet1_1().state_dict(), path)


def half_a_file(path: Path) -> None:
    torch.save(torchvision.models.resnet18(num_classes=2).state_dict(), path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def list_of_tensors(path: Path) -> None:
    torch.save([torch.zeros(3)], path)


def dict_of_numbers(path: Path) -> None:
    torch.save({"fc.weight": 3}, path)


def empty_dict(path: Path) -> None:
    torch.save({}, path)


def not_a_number(path: Path) -> None:
    state_dict = torchvision.models.resnet18(num_classes=2).state_dict()
    state_dict["layer1.0.conv1.weight"][0, 0, 0, 0] = torch.nan
    torch.save(state_dict, path)


def one_tensor_missing(path: Path) -> None:
    state_dict = torchvision.models.resnet18(num_classes=2).state_dict()
    del state_dict["layer3.0.bn1.bias"]
    torch.save(state_dict, path)


def folder(path: Path) -> None:
    path.mkdir()


WRONG_FILES: list[tuple[Callable[[Path], None], str]] = [
    (text_file, "not a state dict"),
    (jpeg_header, "not a state dict"),
    (other_text, "not a state dict"),
    (empty_file, "not a state dict"),
    (half_a_file, "not a state dict"),
    (folder, "not a state dict"),
    (list_of_tensors, "no state dict"),
    (dict_of_numbers, "no state dict"),
    (empty_dict, "no state dict"),
    (state_of_a_resnet34, "layer1.2."),
    (state_of_a_squeezenet, "missing: conv1.weight"),
    (not_a_number, "layer1.0.conv1.weight"),
    (one_tensor_missing, "layer3.0.bn1.bias"),
]


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(("make", "reason"), WRONG_FILES, ids=[make.__name__ for make, _ in WRONG_FILES])
def test_wrong_weights_file(
    rejected: Rejection, tmp_path: Path, make: Callable[[Path], None], reason: str, suffix: str
) -> None:
    weights = tmp_path / f"wrong{suffix}"
    make(weights)
    if suffix == ".safetensors":
        reason = "not a state dict"  # none of them is a safetensors file

    message = rejected("--arch", "resnet18", "--weights", weights)

    assert weights.name in message
    assert reason in message


def test_safetensors_of_another_architecture(rejected: Rejection, tmp_path: Path) -> None:
    weights = tmp_path / "other.safetensors"
    save_file(torchvision.models.resnet34().state_dict(), weights)

    message = rejected("--arch", "resnet18", "--weights", weights)

    assert "other.safetensors" in message
    assert "layer1.2." in message


def test_missing_weights_file(rejected: Rejection, tmp_path: Path) -> None:
    message = rejected("--arch", "resnet18", "--weights", tmp_path / "nowhere.pth")

    assert "nowhere.pth" in message


@pytest.mark.parametrize("form", ["torch", "pickle", "inside a state dict", "safetensors"])
def test_code_in_a_weights_file_never_runs(rejected: Rejection, tmp_path: Path, form: str) -> None:
    weights = tmp_path / ("evil.safetensors" if form == "safetensors" else "evil.pth")
    witness = tmp_path / "code has run"
    code = Code(witness)
    if form == "torch":
        torch.save(code, weights)
    elif form == "inside a state dict":
        torch.save({**torchvision.models.resnet18().state_dict(), "evil": code}, weights)
    else:
        weights.write_bytes(pickle.dumps(code))

    message = rejected("--arch", "resnet18", "--weights", weights)

    assert not witness.exists()
    assert weights.name in message
    if form == "torch":  # a careless reader does run the code
        torch.load(weights, weights_only=False)
        assert witness.exists()


def test_unreachable_weights(rejected: Rejection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    url = f"http://127.0.0.1:{port}/models/resnet18-f37072fd.pth"
    really_download = download.download
    monkeypatch.setattr(download, "download", lambda _published: really_download(url))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))

    message = rejected("--arch", "resnet18", "--weights", "default")

    assert url in message
    assert "--weights resnet18-f37072fd.pth" in message
    assert "refused" in message
    assert "efficientnet_lite0" in message
    assert not [path for path in (tmp_path / "torch").rglob("*") if path.is_file()]


# ----------------------------------------------------------------------------- labels


def test_labels_of_another_number_of_classes(rejected: Rejection, own_network: OwnNetwork, tmp_path: Path) -> None:
    labels = tmp_path / "five.txt"
    labels.write_text("\n".join("abcde"))

    message = rejected("--arch", own_network.architecture, "--weights", own_network.weights, "--labels", labels)

    assert "5" in message
    assert "7" in message
    assert "own.pth" in message


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("broken.json", b'["a", ', "broken.json"),
        ("number.json", b"7", "list of names"),
        ("numbers.json", b"[1, 2, 3, 4, 5, 6, 7]", "string"),
        ("gap.json", b'{"0": "a", "1": "b", "2": "c", "3": "d", "4": "e", "5": "f", "7": "h"}', "6 is missing"),
        ("empty.txt", b"", "a name for every class"),
        ("gap.txt", b"a\nb\n\nd\ne\nf\ng\n", "a name for every class"),
        ("latin.txt", "é\nb\nc\nd\ne\nf\ng".encode("latin-1"), "latin.txt"),
    ],
)
def test_labels_that_cannot_be_read(
    rejected: Rejection, own_network: OwnNetwork, tmp_path: Path, name: str, content: bytes, reason: str
) -> None:
    labels = tmp_path / name
    labels.write_bytes(content)

    message = rejected("--arch", own_network.architecture, "--weights", own_network.weights, "--labels", labels)

    assert name in message
    assert reason in message


def test_missing_labels_file(rejected: Rejection, own_network: OwnNetwork, tmp_path: Path) -> None:
    labels = tmp_path / "nowhere.json"

    message = rejected("--arch", own_network.architecture, "--weights", own_network.weights, "--labels", labels)

    assert "nowhere.json" in message


# ----------------------------------------------------------------------------- engine


def test_engine_that_cannot_run_the_network(
    rejected: Rejection, own_network: OwnNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    def convert(trunk: Trunk, images: Tensor) -> Any:
        raise RuntimeError("no conversion for aten::frobnicate")

    monkeypatch.setattr(graph, "convert", convert)

    message = rejected("--arch", own_network.architecture, "--weights", own_network.weights, "--engine", "openvino")

    assert message == "build_mar: Engine 'openvino' cannot run this network: no conversion for aten::frobnicate"


# ----------------------------------------------------------------------------- places


def test_output_that_is_a_file(
    rejected: Rejection, own_network: OwnNetwork, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "a file"
    file.touch()
    arguments = ["--arch", own_network.architecture, "--weights", own_network.weights, "--output", file]

    status = command.main([str(argument) for argument in arguments])

    assert status == 1
    assert "a file" in capsys.readouterr().err
    assert file.read_bytes() == b""
    rejected.check_nothing_written()


def test_full_disk_leaves_the_old_archive(
    rejected: Rejection, own_network: OwnNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    copyfile = shutil.copyfile

    def copy_half(source: Path, target: Path, **options: Any) -> Path:
        if Path(target).parent != rejected.output:
            return copyfile(source, target, **options)
        target.write_bytes(source.read_bytes()[:1000])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", copy_half)

    with pytest.raises(OSError, match="No space left"):
        build(Build(own_network.architecture, str(own_network.weights), name="mine", output=rejected.output))

    rejected.check_nothing_written()
