"""The systems under test of the benchmark of servers: archives with the same network, and options of requests."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import torch
import torchvision
import yaml
from PIL import Image

from gradcam import machine
from tools.archive import build as build_mar
from tools.archive.build import Build
from tools.archive.packaging import Parts, run_archiver
from tools.archive.precision import PrecisionChoice
from tools.archive.rewrite import reconfigure
from tools.paths import EXAMPLES
from tools.server.capacity import WorkerPlan

BASELINES = Path(__file__).resolve().parent / "baselines"
SEED = 0
LABELS = torchvision.models.ResNet18_Weights.IMAGENET1K_V1.meta["categories"]
MODEL = "resnet18"

NO_MAPS = {"Gradcam-Explain": "0"}
STOCK = "image_classifier"
HOOKS_HANDLER = str(BASELINES / "two_hooks.py")
GRADCAM_HANDLER = str(BASELINES / "pytorch_grad_cam_handler.py")
BATCH = 8
# For calibration, whose images change the accuracy and not the speed.
CALIBRATION_IMAGES, CALIBRATION_SIDE = 100, 256
# Milliseconds that a batch waits for more requests, the same for all systems.
DELAY = 1


@dataclass(frozen=True)
class System:
    """A system under test: a server, and the headers of requests to it.

    Attributes:
        name: in tables and records.
        headers: of each request.
        all_cases: whether it is measured at all concurrencies and image sizes, or in one case only.
    """

    name: str
    headers: dict[str, str] = field(default_factory=dict)
    all_cases: bool = True


@dataclass(frozen=True)
class Deployment:
    """An archive on a server, and the systems under test that it serves."""

    archive: Path
    worker_plan: WorkerPlan
    systems: tuple[System, ...]


STOCK_1 = System("stock, batch 1")
STOCK_8 = System("stock, batch 8")
STOCK_INDUCTOR = System("stock, batch 8, pt2 with inductor")
STOCK_OPENVINO = System("stock, batch 8, pt2 with openvino")
STOCK_DEFAULTS = System("stock, batch 1, TorchServe's default workers")
TWO_HOOKS = System("two hooks, full backward", all_cases=False)
GRADCAM = System("pytorch-grad-cam")
OURS_LABELS = System("ours, labels only", NO_MAPS)
OURS = System("ours, with maps")
OURS_10 = System("ours, 10 classes", {"Gradcam-Explain": "10"}, all_cases=False)
OURS_OVERLAY = System("ours, with overlay (jpeg)", {"Gradcam-Overlay": "jpeg"}, all_cases=False)
OURS_FAST = System("ours, with maps, decoding: fast", all_cases=False)
OURS_BF16_LABELS = System("ours, labels only, bfloat16", NO_MAPS, all_cases=False)
OURS_BF16 = System("ours, with maps, bfloat16")
OURS_INT8_LABELS = System("ours, labels only, int8", NO_MAPS, all_cases=False)
OURS_INT8 = System("ours, with maps, int8")
OURS_INT8_10 = System("ours, 10 classes, int8", {"Gradcam-Explain": "10"}, all_cases=False)


def deployments(folder: Path) -> list[Deployment]:
    """Build all archives, with the same weights and the same preprocessing."""
    here, cores = WorkerPlan.of_machine(), machine.cores()
    weights = save_weights(folder)
    stock_1 = third_party(folder, "stock1", STOCK, weights, batchSize=1)
    stock_8 = third_party(folder, "stock8", STOCK, weights)
    ours = _ours(folder, "ours", weights)
    return [
        Deployment(stock_1, here, (STOCK_1,)),
        Deployment(stock_8, here, (STOCK_8,)),
        # TorchServe's default: one worker per core, each with one thread per core.
        Deployment(stock_1, WorkerPlan(workers=cores, threads=cores), (STOCK_DEFAULTS,)),
        Deployment(third_party(folder, "hooks", HOOKS_HANDLER, weights), here, (TWO_HOOKS,)),
        Deployment(
            third_party(folder, "gradcam", str(BASELINES / "pytorch_grad_cam_handler.py"), weights), here, (GRADCAM,)
        ),
        Deployment(ours, here, (OURS_LABELS, OURS, OURS_10, OURS_OVERLAY)),
        Deployment(_ours(folder, "fast", weights, "decoding=fast"), here, (OURS_FAST,)),
        *_compiled_stock(folder, weights, here),
        *_in_lower_precision(folder, weights, here),
    ]


def _compiled_stock(folder: Path, weights: Path, plan: WorkerPlan) -> list[Deployment]:
    """Return the stock handler as an expert would tune it: with torch.compile, which TorchServe calls pt2."""
    backends = {"openvino": STOCK_OPENVINO}
    if shutil.which("c++"):
        backends["inductor"] = STOCK_INDUCTOR
    return [
        Deployment(
            third_party(folder, backend, STOCK, weights, pt2={"compile": {"enable": True, "backend": backend}}),
            plan,
            (system,),
        )
        for backend, system in backends.items()
    ]


def _in_lower_precision(folder: Path, weights: Path, plan: WorkerPlan) -> list[Deployment]:
    """Return this project's server in int8, and in bfloat16 if this processor has instructions for it."""
    int8 = _ours(folder, "int8", weights, precision="int8")
    deployments = [Deployment(int8, plan, (OURS_INT8_LABELS, OURS_INT8, OURS_INT8_10))]
    if "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        bf16 = _ours(folder, "bf16", weights, precision="bfloat16")
        deployments.append(Deployment(bf16, plan, (OURS_BF16_LABELS, OURS_BF16)))
    return deployments


def variants(folder: Path) -> list[Deployment]:
    """Return this project's server with its defaults, and with other workers, threads, batches, and delays."""
    here, cores = WorkerPlan.of_machine(), machine.cores()
    ours = _ours(folder, "ours", save_weights(folder))
    capacities = [here, WorkerPlan(1, cores), WorkerPlan(cores, cores), WorkerPlan(1, 1)]
    changes = [("batchSize", 1), ("batchSize", 4), ("batchSize", 16), ("maxBatchDelay", 10), ("maxBatchDelay", 100)]
    return [
        *(
            Deployment(ours, capacity, (System(f"ours, workers × threads {capacity.workers} × {capacity.threads}"),))
            for capacity in dict.fromkeys(capacities)
        ),
        *(
            Deployment(
                _with_setting(ours, folder / f"{name}{value}", name, value),
                here,
                (System(f"ours, {name} {value}"),),
            )
            for name, value in changes
        ),
    ]


def save_weights(folder: Path) -> Path:
    """Write seeded random weights of a ResNet-18 as a state dict."""
    torch.manual_seed(SEED)
    path = folder / "resnet18.pth"
    torch.save(torchvision.models.resnet18().state_dict(), path)
    return path


def third_party(folder: Path, name: str, handler: str, weights: Path, **config_changes: Any) -> Path:
    """Build an archive with another handler, and with changes of its `model-config.yaml`."""
    target = folder / name
    target.mkdir()
    labels, config = target / "index_to_name.json", target / "model-config.yaml"
    labels.write_text(json.dumps({str(index): label for index, label in enumerate(LABELS)}))
    keys = {"batchSize": BATCH, "maxBatchDelay": DELAY, "responseTimeout": 120, **config_changes}
    config.write_text(yaml.safe_dump(keys))
    parts = Parts(handler, weights, config, extra_files=labels, model_file=BASELINES / "resnet18.py")
    return run_archiver(target, MODEL, parts)


def _ours(folder: Path, name: str, weights: Path, *assignments: str, precision: PrecisionChoice = "float32") -> Path:
    """Build an archive of this project, with the stock handler's preprocessing."""
    labels = folder / "labels.json"
    labels.write_text(json.dumps(LABELS))
    # Networks with random weights may deviate in int8 as they like: they are as fast.
    return build_mar.build(
        Build(
            MODEL,
            str(weights),
            labels=labels,
            transform="crop",
            precision=precision,
            calibration=_calibration_images(folder) if precision == "int8" else None,
            min_agreement=0,
            min_cosine=0,
            assignments=assignments,
            output=folder / name,
        )
    )


def _calibration_images(folder: Path) -> Path:
    """Write random crops of the examples."""
    target = folder / "calibration"
    target.mkdir()
    random = np.random.default_rng(SEED)
    examples = [Image.open(path).convert("RGB") for path in sorted(EXAMPLES.glob("*.jpg"))]
    for number in range(CALIBRATION_IMAGES):
        example = examples[number % len(examples)]
        left, top = (int(random.integers(0, size - CALIBRATION_SIDE + 1)) for size in example.size)
        crop = example.crop((left, top, left + CALIBRATION_SIDE, top + CALIBRATION_SIDE))
        crop.save(target / f"{number}.png")
    return target


def _with_setting(archive: Path, folder: Path, setting: str, value: int) -> Path:
    """Return a copy of an archive with another value of a TorchServe setting."""
    folder.mkdir()
    return reconfigure(archive, folder / archive.name, **{setting: value})
