"""How much of the machine this process may use: in a container, libraries see all of it."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import psutil

# As a container sees its own limits; version 2 of control groups, or version 1.
CGROUPS = Path("/sys/fs/cgroup")


def cores(cgroups: Path = CGROUPS) -> int:
    """Returns the number of processor cores that affinity and control groups leave; 1 at least."""
    available = len(os.sched_getaffinity(0))
    quota = _numbers(cgroups / "cpu.max") or [
        *_numbers(cgroups / "cpu" / "cpu.cfs_quota_us"),
        *_numbers(cgroups / "cpu" / "cpu.cfs_period_us"),
    ]
    # No limit is "max 100000" with version 2, and -1 with version 1.
    if len(quota) == 2 and min(quota) > 0:
        available = min(available, quota[0] // quota[1])
    return max(1, available)


def memory(cgroups: Path = CGROUPS) -> int:
    """Returns the memory that control groups leave, in bytes."""
    limits = _numbers(cgroups / "memory.max") or _numbers(cgroups / "memory" / "memory.limit_in_bytes")
    return min([int(psutil.virtual_memory().total), *limits])


def return_memory() -> None:
    """Gives memory that is free back to the system; glibc keeps what loading a network leaves in between."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # other C libraries have none
    if trim is not None:
        trim(0)


def _numbers(path: Path) -> list[int]:
    """Returns the numbers of a line such as "200000 100000"; none where the file is not there."""
    try:
        return [int(word) for word in path.read_text(encoding="ascii").split() if word.lstrip("-").isdecimal()]
    except OSError:
        return []
