"""Processor cores and memory that this process may use; in a container, libraries see the whole machine."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import psutil

# Where a container sees its own limits, in version 1 or 2 of control groups.
CGROUPS = Path("/sys/fs/cgroup")


def cores(cgroups: Path = CGROUPS) -> int:
    """Return the number of processor cores that affinity and control groups allow; at least 1."""
    available = len(os.sched_getaffinity(0))
    quota = _numbers(cgroups / "cpu.max") or [
        *_numbers(cgroups / "cpu" / "cpu.cfs_quota_us"),
        *_numbers(cgroups / "cpu" / "cpu.cfs_period_us"),
    ]
    # No limit is written as "max 100000" in version 2, and as -1 in version 1.
    if len(quota) == 2 and min(quota) > 0:
        available = min(available, quota[0] // quota[1])
    return max(1, available)


def memory(cgroups: Path = CGROUPS) -> int:
    """Return the memory that control groups allow, in bytes."""
    limits = _numbers(cgroups / "memory.max") or _numbers(cgroups / "memory" / "memory.limit_in_bytes")
    return min([int(psutil.virtual_memory().total), *limits])


def return_memory() -> None:
    """Return free memory to the system; glibc otherwise keeps what loading a network has freed."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # a function of glibc only
    if trim is not None:
        trim(0)


def _numbers(path: Path) -> list[int]:
    """Return the numbers in a line such as "200000 100000"; none if the file does not exist."""
    try:
        return [int(word) for word in path.read_text(encoding="ascii").split() if word.lstrip("-").isdecimal()]
    except OSError:
        return []
