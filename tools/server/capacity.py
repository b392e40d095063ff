"""How many workers a server should have on this machine, and how many threads each."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass

from gradcam import machine

# More workers need more memory; more threads share the work of one batch, and of a single request.
MAX_WORKERS = 4
# Bytes. A worker takes about 0.8 GB, and briefly twice as much while it decodes a very large image.
MEMORY_PER_WORKER = 2 * 2**30


@dataclass(frozen=True)
class WorkerPlan:
    """Workers of each model, and threads of each worker; together no more threads than cores."""

    workers: int
    threads: int

    @classmethod
    def of(cls, cores: int, memory: int, gpus: int) -> WorkerPlan:
        """Return what fits `cores`, `memory` in bytes, and GPUs: one worker per GPU, if there are any.

        Threads that wait for one another waste time, especially when something else needs a core, so additional
        cores become workers first and threads second.
        """
        workers = gpus or max(1, min(cores, MAX_WORKERS, memory // MEMORY_PER_WORKER))
        return cls(workers, max(1, cores // workers))

    @classmethod
    def of_machine(cls) -> WorkerPlan:
        """Return what fits this machine, or the share of it that a container may use."""
        return cls.of(machine.cores(), machine.memory(), count_gpus())


def count_gpus() -> int:
    """Count the GPUs as TorchServe does, by asking the driver."""
    if shutil.which("nvidia-smi") is None:
        return 0
    listing = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True, timeout=60, check=False)
    return len(listing.stdout.splitlines()) if listing.returncode == 0 else 0
