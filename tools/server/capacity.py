"""How many workers a server should have on this machine, and how many threads each."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass

from gradcam import machine

# More workers than these are more memory; more threads share the work of one batch, and of a lone request.
MOST_WORKERS = 4
# A worker has about 0.8 GB, and twice as much for a moment where a picture is very large.
MEMORY_PER_WORKER = 2 * 2**30


@dataclass(frozen=True)
class Capacity:
    """Workers of each model, and threads of each worker; together no more threads than cores."""

    workers: int
    threads: int

    @classmethod
    def of(cls, cores: int, memory: int, gpus: int) -> Capacity:
        """Returns what fits `cores`, `memory` in bytes, and GPUs: a worker for each, where there are any.

        Threads that wait for one another waste time, most of all when something else needs a core. So workers
        come first.
        """
        workers = gpus or max(1, min(cores, MOST_WORKERS, memory // MEMORY_PER_WORKER))
        return cls(workers, max(1, cores // workers))

    @classmethod
    def of_machine(cls) -> Capacity:
        """Returns what fits this machine, or what of it a container may use."""
        return cls.of(machine.cores(), machine.memory(), gpus())


def gpus() -> int:
    """Counts the GPUs as TorchServe does, by asking the driver."""
    if shutil.which("nvidia-smi") is None:
        return 0
    asked = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True, timeout=60, check=False)
    return len(asked.stdout.splitlines()) if asked.returncode == 0 else 0
