"""Archives shared by several test folders, each built once per session, and the distribution of tests to processes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

# torch reads this at import, here and in every process that a test starts. With more threads than cores, the threads
# spend most of their time waiting for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
import torchvision

from tests.support import oracles
from tests.support.own_network import OwnNetwork
from tools.archive import build as build_mar
from tools.archive.build import Build

# Files of tests/server that start servers of their own; the others share one.
OWN_SERVERS = (
    "benchmark",
    "cors",
    "docs",
    "faults",
    "load_test",
    "network_kinds",
    "operator",
    "precision",
    "rollout",
    "security",
)
SHARED_SERVER = "the tests of the shared server"


def scope(nodeid: str) -> str:
    """Return what runs in one process: a file, because its tests share fixtures, or all files of the shared server."""
    file = nodeid.partition("::")[0]
    own = [f"tests/server/test_{name}.py" for name in OWN_SERVERS]
    return SHARED_SERVER if file.startswith("tests/server/") and file not in own else file


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest, so that both processes end at about the same time; mark what needs an archive."""
    for item in items:
        if {"squash_archive", "own_archive"}.intersection(getattr(item, "fixturenames", ())):
            item.add_marker("slow")
    items.sort(key=lambda item: (scope(item.nodeid) != SHARED_SERVER, not item.nodeid.startswith("tests/server/")))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Distribute scopes to processes in the order of the collection."""
    # xdist's `loadgroup` has no effect with this pytest, which ignores the node ids that xdist changes.
    from xdist.scheduler import LoadScopeScheduling  # noqa: PLC0415

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return scope(nodeid)

    config.option.loadscopereorder = False
    return Scheduling(config, log)


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="session")
def squash_archive(store: Path) -> Path:
    """ResNet-18 with random weights and the eager engine, which starts fast, and with time for a busy machine."""
    assignments = ("max_batch_seconds=40",)
    return build_mar.build(
        Build("resnet18", "random", engine="eager", name="squash", output=store, assignments=assignments)
    )


@pytest.fixture(scope="session")
def own_network(tmp_path_factory: pytest.TempPathFactory) -> OwnNetwork:
    network = oracles.seeded(torchvision.models.shufflenet_v2_x0_5(num_classes=7), seed=7)
    weights = tmp_path_factory.mktemp("own") / "own.pth"
    torch.save(network.state_dict(), weights)
    labels = ("ant", "bee, honey", "cat", "Straße", "dog 🐕", "étoile", "crow")
    return OwnNetwork("shufflenet_v2_x0_5", network, weights, labels)


@pytest.fixture(scope="session")
def own_archive(own_network: OwnNetwork, store: Path) -> Path:
    """An archive of the user's network, named `own`."""
    labels = own_network.weights.with_name("own.txt")
    labels.write_text("\n".join(own_network.labels), encoding="utf-8")
    return build_mar.build(
        Build(own_network.architecture, str(own_network.weights), labels=labels, name="own", output=store)
    )
