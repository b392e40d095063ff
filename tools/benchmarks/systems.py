"""Who takes part in the benchmark of servers: archives with the same network, and what is asked of each."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torchvision
import yaml

from gradcam import machine
from gradcam.settings import Decoding, Engine
from tools.archive import build as build_mar
from tools.archive.build import Build
from tools.server.capacity import WorkerPlan

PEERS = Path(__file__).resolve().parent / "baselines"
SEED = 0
LABELS = torchvision.models.ResNet18_Weights.IMAGENET1K_V1.meta["categories"]
MODEL = "resnet18"

NO_MAPS = {"Gradcam-Explain": "0"}
STOCK = "image_classifier"
BATCH = 8
# Milliseconds that a batch waits to be filled, for all alike.
DELAY = 1


@dataclass(frozen=True)
class Contestant:
    """Something that answers requests: a server, and what its requests ask for."""

    name: str
    headers: dict[str, str] = field(default_factory=dict)
    everything: bool = True
    """Whether it is asked at all concurrencies and picture sizes, or in one case only."""


@dataclass(frozen=True)
class Entry:
    """A server, and all that it is asked for."""

    archive: Path
    capacity: WorkerPlan
    contestants: tuple[Contestant, ...]


STOCK_1 = Contestant("stock, batch 1")
STOCK_8 = Contestant("stock, batch 8")
STOCK_DEFAULTS = Contestant("stock, batch 1, TorchServe's default workers")
TWO_HOOKS = Contestant("two hooks, full backward", everything=False)
GRADCAM = Contestant("pytorch-grad-cam")
OURS_LABELS = Contestant("ours, labels only", NO_MAPS)
OURS = Contestant("ours, with maps")
OURS_10 = Contestant("ours, 10 classes", {"Gradcam-Explain": "10"}, everything=False)
OURS_OVERLAY = Contestant("ours, with overlay (jpeg)", {"Gradcam-Overlay": "jpeg"}, everything=False)
OURS_FAST = Contestant("ours, with maps, decoding: fast")
OURS_COMPILED = Contestant("ours, with maps, compile", everything=False)
OURS_OPENVINO = Contestant("ours, with maps, openvino")
OURS_OPENVINO_FAST = Contestant("ours, with maps, openvino, decoding: fast", everything=False)
OURS_OPENVINO_LABELS = Contestant("ours, labels only, openvino", NO_MAPS, everything=False)


def entries(folder: Path) -> list[Entry]:
    """Builds all archives, with the same weights and the same preprocessing, and returns the servers."""
    here, cores = WorkerPlan.of_machine(), machine.cores()
    weights = save_weights(folder)
    stock_1, stock_8 = (peer(folder, f"stock{batch}", STOCK, weights, batch) for batch in (1, BATCH))
    ours = _ours(folder, "ours", weights)
    servers = [
        Entry(stock_1, here, (STOCK_1,)),
        Entry(stock_8, here, (STOCK_8,)),
        # What TorchServe does on its own: a worker a core, each with a thread a core.
        Entry(stock_1, WorkerPlan(workers=cores, threads=cores), (STOCK_DEFAULTS,)),
        Entry(peer(folder, "hooks", str(PEERS / "two_hooks.py"), weights), here, (TWO_HOOKS,)),
        Entry(peer(folder, "gradcam", str(PEERS / "pytorch_grad_cam_handler.py"), weights), here, (GRADCAM,)),
        Entry(ours, here, (OURS_LABELS, OURS, OURS_10, OURS_OVERLAY)),
        Entry(_ours(folder, "fast", weights, decoding="fast"), here, (OURS_FAST,)),
    ]
    if shutil.which("c++"):
        servers.append(Entry(_ours(folder, "compile", weights, engine="compile"), here, (OURS_COMPILED,)))
    if importlib.util.find_spec("openvino"):
        openvino = _ours(folder, "openvino", weights, engine="openvino")
        both = _ours(folder, "both", weights, engine="openvino", decoding="fast")
        servers.append(Entry(openvino, here, (OURS_OPENVINO_LABELS, OURS_OPENVINO)))
        servers.append(Entry(both, here, (OURS_OPENVINO_FAST,)))
    return servers


def variants(folder: Path) -> list[Entry]:
    """Returns our server as it comes, and with other workers, threads, batches and delays."""
    here, cores = WorkerPlan.of_machine(), machine.cores()
    ours = _ours(folder, "ours", save_weights(folder))
    capacities = [here, WorkerPlan(1, cores), WorkerPlan(cores, cores), WorkerPlan(1, 1)]
    changes = [("batchSize", 1), ("batchSize", 4), ("batchSize", 16), ("maxBatchDelay", 10), ("maxBatchDelay", 100)]
    return [
        *(
            Entry(ours, capacity, (Contestant(f"ours, workers × threads {capacity.workers} × {capacity.threads}"),))
            for capacity in dict.fromkeys(capacities)
        ),
        *(
            Entry(
                _with_setting(ours, folder / f"{name}{value}", name, value),
                here,
                (Contestant(f"ours, {name} {value}"),),
            )
            for name, value in changes
        ),
    ]


def save_weights(folder: Path) -> Path:
    """Writes seeded random weights of a ResNet-18 as a state dict."""
    torch.manual_seed(SEED)
    path = folder / "resnet18.pth"
    torch.save(torchvision.models.resnet18().state_dict(), path)
    return path


def peer(folder: Path, name: str, handler: str, weights: Path, batch: int = BATCH) -> Path:
    """Builds an archive of somebody else's handler."""
    target = folder / name
    target.mkdir()
    labels, config = target / "index_to_name.json", target / "model-config.yaml"
    labels.write_text(json.dumps({str(index): label for index, label in enumerate(LABELS)}))
    config.write_text(yaml.safe_dump({"batchSize": batch, "maxBatchDelay": DELAY, "responseTimeout": 120}))
    command = {
        "--model-name": MODEL,
        "--version": "1.0",
        "--model-file": PEERS / "resnet18.py",
        "--serialized-file": weights,
        "--handler": handler,
        "--extra-files": labels,
        "--config-file": config,
        "--export-path": target,
    }
    subprocess.run(
        [
            sys.executable,
            "-m",
            "model_archiver.model_packaging",
            *(str(part) for pair in command.items() for part in pair),
        ],
        env={**os.environ, "TMPDIR": str(target)},  # the archiver deletes what it finds at TMPDIR/<name>
        check=True,
        capture_output=True,
    )
    return target / f"{MODEL}.mar"


def _ours(folder: Path, name: str, weights: Path, engine: Engine = "eager", decoding: Decoding = "exact") -> Path:
    """Builds an archive as a user does, but with the stock handler's preprocessing."""
    labels = folder / "labels.json"
    labels.write_text(json.dumps(LABELS))
    return build_mar.build(
        Build(
            MODEL, str(weights), labels=labels, transform="crop", decoding=decoding, engine=engine, output=folder / name
        )
    )


def _with_setting(archive: Path, folder: Path, setting: str, value: int) -> Path:
    """Writes an archive with another value of a setting of TorchServe's."""
    folder.mkdir()
    changed = folder / archive.name
    with zipfile.ZipFile(archive) as source, zipfile.ZipFile(changed, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name == "model-config.yaml":
                content = yaml.safe_dump({**yaml.safe_load(content), setting: value}).encode()
            target.writestr(name, content)
    return changed
