"""Archives of the user's own network, and when an archive is rebuilt."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
import yaml
from safetensors.torch import load, save_file

from tests.support import oracles
from tests.support.own_network import OwnNetwork
from tools.archive import command


def read_json(archive: Path, name: str) -> Any:
    with zipfile.ZipFile(archive) as opened:
        return json.loads(opened.read(name))


def block(archive: Path) -> dict[str, Any]:
    with zipfile.ZipFile(archive) as opened:
        loaded: dict[str, Any] = yaml.safe_load(opened.read("model-config.yaml"))["gradcam"]
        return loaded


def arguments_for(own: OwnNetwork, folder: Path, *more: str | Path) -> list[str]:
    fixed = ["--arch", own.architecture, "--weights", own.weights, "--output", folder, "--name", "mine"]
    return [str(part) for part in (*fixed, *more)]


# ----------------------------------------------------------------------------- the user's network


@pytest.mark.parametrize("form", ["list.json", "object.json", "wordnet.json", "names.txt", "bom.txt"])
def test_labels_in_every_format_become_the_same_names(
    form: str, own_network: OwnNetwork, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = own_network.labels
    text = {
        "list.json": json.dumps(names),
        # The order of an object's keys has no meaning.
        "object.json": json.dumps({str(index): names[index] for index in (3, 0, 1, 6, 5, 4, 2)}),
        "wordnet.json": json.dumps({str(index): [f"n{index:08}", name] for index, name in enumerate(names)}),
        "names.txt": "\n".join(names),
        "bom.txt": "\ufeff" + "\r\n".join(names) + "\r\n",
    }[form]
    labels = tmp_path / form
    labels.write_bytes(text.encode("utf-8"))

    status = command.main(arguments_for(own_network, tmp_path / "out", "--labels", labels))

    assert status == 0
    archive = tmp_path / "out" / "mine.mar"
    assert str(archive) in capsys.readouterr().out
    assert read_json(archive, "index_to_name.json") == {str(index): name for index, name in enumerate(names)}
    assert block(archive)["num_classes"] == 7


@pytest.mark.parametrize("form", ["pth", "checkpoint", "data parallel", "safetensors"])
def test_weights_in_every_format_are_packed_unchanged(form: str, own_network: OwnNetwork, tmp_path: Path) -> None:
    state_dict = own_network.network.state_dict()
    weights = tmp_path / "w.pth"
    if form == "pth":
        torch.save(state_dict, weights)
    elif form == "checkpoint":
        torch.save({"state_dict": state_dict, "epoch": 3}, weights)
    elif form == "data parallel":
        torch.save({f"module.{name}": tensor for name, tensor in state_dict.items()}, weights)
    else:
        weights = tmp_path / "w.safetensors"
        save_file(state_dict, weights)

    status = command.main(arguments_for(own_network, tmp_path / "out", "--weights", weights))

    assert status == 0
    with zipfile.ZipFile(tmp_path / "out" / "mine.mar") as archive:
        packed = load(archive.read("weights.safetensors"))
    assert packed.keys() == state_dict.keys()
    assert all(torch.equal(packed[name], tensor) for name, tensor in state_dict.items())


def test_without_labels_classes_are_numbered_with_a_notice(
    own_network: OwnNetwork, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(arguments_for(own_network, tmp_path)) == 0

    assert "class 0" in capsys.readouterr().err
    names = read_json(tmp_path / "mine.mar", "index_to_name.json")
    assert names == {str(index): f"class {index}" for index in range(7)}


def test_options_become_settings(own_network: OwnNetwork, tmp_path: Path) -> None:
    arguments = arguments_for(own_network, tmp_path, "--transform", "crop", "--layer", "stage4.3.branch2.0")

    assert command.main(arguments) == 0

    settings = block(tmp_path / "mine.mar")
    assert (settings["transform"], settings["layer"]) == ("crop", "stage4.3.branch2.0")
    assert settings["weights"] == "own.pth"
    assert read_json(tmp_path / "mine.mar", "MAR-INF/MANIFEST.json")["model"]["modelName"] == "mine"


def test_random_weights_are_the_same_in_every_build(tmp_path: Path) -> None:
    hashes = set()
    for name, state in (("a", 1), ("b", 2)):
        torch.manual_seed(state)
        arguments = ["--arch", "squeezenet1_1", "--weights", "random", "--name", name, "--output", str(tmp_path)]
        assert command.main(arguments) == 0
        hashes.add(block(tmp_path / f"{name}.mar")["weights_sha256"])

    assert len(hashes) == 1


# ----------------------------------------------------------------------------- --if-needed


def built_at(archive: Path) -> tuple[int, int]:
    """Return what distinguishes builds: a new archive is a new file."""
    status = archive.stat()
    return status.st_ino, status.st_mtime_ns


def test_if_needed_builds_once(own_network: OwnNetwork, tmp_path: Path) -> None:
    arguments = arguments_for(own_network, tmp_path, "--if-needed")
    assert command.main(arguments) == 0
    first = built_at(tmp_path / "mine.mar")

    assert command.main(arguments) == 0

    assert built_at(tmp_path / "mine.mar") == first


def test_without_if_needed_it_builds_again(own_network: OwnNetwork, tmp_path: Path) -> None:
    assert command.main(arguments_for(own_network, tmp_path)) == 0
    first = built_at(tmp_path / "mine.mar")

    assert command.main(arguments_for(own_network, tmp_path)) == 0

    assert built_at(tmp_path / "mine.mar") != first


def test_if_needed_follows_options_weights_and_labels(own_network: OwnNetwork, tmp_path: Path) -> None:
    archive = tmp_path / "mine.mar"
    weights, labels = tmp_path / "w.pth", tmp_path / "names.txt"
    weights.write_bytes(own_network.weights.read_bytes())
    labels.write_text("\n".join("abcdefg"))
    arguments = arguments_for(own_network, tmp_path, "--weights", weights, "--labels", labels, "--if-needed")
    assert command.main(arguments) == 0
    assert block(archive)["transform"] == "squash"

    assert command.main([*arguments, "--transform", "crop"]) == 0
    assert block(archive)["transform"] == "crop"

    assert command.main(arguments) == 0
    assert block(archive)["transform"] == "squash"

    labels.write_text("\n".join("ABCDEFG"))
    assert command.main(arguments) == 0
    assert read_json(archive, "index_to_name.json")["0"] == "A"

    before = block(archive)["weights_sha256"]
    other = oracles.seeded(torchvision.models.shufflenet_v2_x0_5(num_classes=7), seed=8)
    torch.save(other.state_dict(), weights)
    assert command.main(arguments) == 0
    assert block(archive)["weights_sha256"] != before


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 half an archive"])
def test_if_needed_replaces_an_invalid_archive(own_network: OwnNetwork, tmp_path: Path, content: bytes) -> None:
    archive = tmp_path / "mine.mar"
    archive.write_bytes(content)

    assert command.main(arguments_for(own_network, tmp_path, "--if-needed")) == 0

    assert block(archive)["architecture"] == own_network.architecture


# ----------------------------------------------------------------------------- settings


def test_settings_and_torchserves_keys_are_set(own_network: OwnNetwork, tmp_path: Path) -> None:
    assignments = [
        "--set",
        "max_passes=8",
        "--set",
        "layer=conv5.0",
        "--set",
        "input_size=64,96",
        "--set",
        "batchSize=4",
    ]
    assert command.main(arguments_for(own_network, tmp_path, *assignments)) == 0
    settings = block(tmp_path / "mine.mar")
    assert {key: settings[key] for key in ("max_passes", "layer", "input_size")} == {
        "max_passes": 8,
        "layer": "conv5.0",
        "input_size": [64, 96],
    }
    with zipfile.ZipFile(tmp_path / "mine.mar") as opened:
        assert yaml.safe_load(opened.read("model-config.yaml"))["batchSize"] == 4


def test_a_default_method_with_passes_for_each_channel_is_allowed(own_network: OwnNetwork, tmp_path: Path) -> None:
    assert command.main(arguments_for(own_network, tmp_path, "--method", "scorecam")) == 0
    settings = block(tmp_path / "mine.mar")
    assert settings["methods"][-1] == "scorecam"
    assert (settings["max_passes"], settings["max_batch_seconds"]) == (1025, 40)


def test_an_unknown_setting_is_rejected(
    own_network: OwnNetwork, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(arguments_for(own_network, tmp_path, "--set", "max_pass=8")) == 1
    assert capsys.readouterr().err.startswith("build_mar: Unknown setting 'max_pass'; did you mean 'max_passes'")
