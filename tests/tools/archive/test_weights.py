"""Weights: published, from the user's file, or random."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import pytest
import torch
import torchvision
from torch import Tensor

from gradcam.network import architecture as network
from tests.support.state_dicts import STATE, assert_state, saved, written
from tests.support.weights_site import Site
from tools.archive import download, weights
from tools.archive.published import published


def state_of(architecture: str, num_classes: int) -> dict[str, Tensor]:
    return network.build(architecture, num_classes).state_dict()


@pytest.mark.parametrize(
    ("architecture", "num_classes"),
    [
        ("resnet18", 7),
        ("resnet18", 2),
        ("resnet18", 512),
        ("squeezenet1_1", 7),
        ("mobilenet_v3_small", 1),
        ("regnet_y_400mf", 7),
    ],
)
def test_number_of_classes(architecture: str, num_classes: int) -> None:
    assert weights.num_classes_of(architecture, state_of(architecture, num_classes), None) == num_classes


def test_random_weights_are_seeded() -> None:
    torch.manual_seed(12345)
    first = weights.load("resnet18", "random", 7, None)
    second = weights.load("resnet18", "random", 7, None)
    torch.manual_seed(0)
    expected = torchvision.models.resnet18(num_classes=7).state_dict()
    assert list(first.state_dict) == list(second.state_dict) == list(expected)
    for name, tensor in expected.items():
        assert torch.equal(first.state_dict[name], tensor)
        assert torch.equal(second.state_dict[name], tensor)
    assert (first.source, first.labels) == ("random (seed 0)", None)


def test_random_weights_have_the_published_classes_by_default() -> None:
    loaded = weights.load("squeezenet1_1", "random", None, None)
    assert loaded.state_dict["classifier.1.bias"].shape == (1000,)
    assert loaded.labels == published("resnet18").labels


def test_a_file_of_the_user(tmp_path: Path) -> None:
    loaded = weights.load("resnet18", str(written(tmp_path / "mine.pth", saved(STATE))), None, None)
    assert_state(loaded.state_dict)
    assert (loaded.source, loaded.labels) == ("mine.pth", None)


def test_a_file_with_the_published_name_but_other_content(tmp_path: Path) -> None:
    path = written(tmp_path / "resnet18-f37072fd.pth", saved(STATE))
    loaded = weights.load("resnet18", str(path), None, None)
    assert (loaded.source, loaded.labels) == ("resnet18-f37072fd.pth", None)


@pytest.mark.parametrize("renamed", [None, "resnet18.pth"])
def test_the_published_file_provided_by_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renamed: str | None
) -> None:
    data = saved(STATE)
    name = f"resnet18-{hashlib.sha256(data).hexdigest()[:8]}.pth"
    official = published("resnet18")
    moved = dataclasses.replace(official, file_name=name)
    monkeypatch.setattr(weights, "published", lambda architecture: moved)
    loaded = weights.load("resnet18", str(written(tmp_path / (renamed or name), data)), None, None)
    assert (loaded.source, loaded.labels) == (official.name, official.labels)


def test_default_weights_come_from_where_they_are_published(
    site: Site, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    official = published("resnet18")
    requested: list[str] = []
    really_download = download.download

    def download_from_site(url: str) -> Path:
        requested.append(url)
        return really_download(site.publish(saved(STATE)))

    monkeypatch.setattr(download, "download", download_from_site)
    loaded = weights.load("resnet18", "default", None, None)
    assert_state(loaded.state_dict)
    assert (loaded.source, loaded.labels) == (official.name, official.labels)
