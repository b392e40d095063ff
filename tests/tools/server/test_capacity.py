"""Workers and threads never need more than there is."""

from __future__ import annotations

import subprocess
from types import SimpleNamespace

import pytest

from tools.server import capacity
from tools.server.capacity import WorkerPlan

GIB = 2**30


@pytest.mark.parametrize(
    ("cores", "memory", "gpus", "expected"),
    [
        (1, 64, 0, WorkerPlan(workers=1, threads=1)),
        (2, 64, 0, WorkerPlan(workers=2, threads=1)),
        (3, 64, 0, WorkerPlan(workers=3, threads=1)),
        (6, 64, 0, WorkerPlan(workers=4, threads=1)),
        (16, 64, 0, WorkerPlan(workers=4, threads=4)),
        (16, 5, 0, WorkerPlan(workers=2, threads=8)),
        (2, 1, 0, WorkerPlan(workers=1, threads=2)),
        (16, 64, 1, WorkerPlan(workers=1, threads=16)),
        (16, 2, 3, WorkerPlan(workers=3, threads=5)),
        (2, 64, 8, WorkerPlan(workers=8, threads=1)),
    ],
    ids=str,
)
def test_plan_fits_the_machine(cores: int, memory: int, gpus: int, expected: WorkerPlan) -> None:
    assert WorkerPlan.of(cores, memory * GIB, gpus) == expected


@pytest.mark.parametrize(
    ("driver", "returncode", "output", "gpus"),
    [
        (None, 0, "GPU 0: x\n", 0),
        ("/bin/nvidia-smi", 0, "GPU 0: x\nGPU 1: y\n", 2),
        ("/bin/nvidia-smi", 9, "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n", 0),
    ],
)
def test_gpus(driver: str | None, returncode: int, output: str, gpus: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: driver)
    listing = SimpleNamespace(returncode=returncode, stdout=output)
    monkeypatch.setattr(subprocess, "run", lambda command, **options: listing)
    assert capacity.count_gpus() == gpus
