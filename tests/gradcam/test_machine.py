"""Limits in the notation of both versions of control groups."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from gradcam import machine

ALL_CORES = len(os.sched_getaffinity(0))
ALL_MEMORY = psutil.virtual_memory().total


def folder_with(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text + "\n")
    return folder


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, 16),
        ({"cpu.max": "max 100000"}, 16),
        ({"cpu.max": "400000 100000"}, 4),
        ({"cpu.max": "350000 100000"}, 3),
        ({"cpu.max": "50000 100000"}, 1),
        ({"cpu.max": "3200000 100000"}, 16),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 16),
        ({"cpu/cpu.cfs_quota_us": "200000", "cpu/cpu.cfs_period_us": "100000"}, 2),
    ],
    ids=str,
)
def test_cores(files: dict[str, str], cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(16)))
    assert machine.cores(folder_with(tmp_path, files)) == cores


@pytest.mark.parametrize(
    ("files", "memory"),
    [
        ({}, ALL_MEMORY),
        ({"memory.max": "max"}, ALL_MEMORY),
        ({"memory.max": "123456789"}, 123456789),
        ({"memory/memory.limit_in_bytes": "9223372036854771712"}, ALL_MEMORY),
        ({"memory/memory.limit_in_bytes": "123456789"}, 123456789),
    ],
    ids=str,
)
def test_memory(files: dict[str, str], memory: int, tmp_path: Path) -> None:
    assert machine.memory(folder_with(tmp_path, files)) == memory


def test_this_machine() -> None:
    assert 1 <= machine.cores() <= ALL_CORES
    assert 2**28 < machine.memory() <= ALL_MEMORY


def test_free_memory_is_returned() -> None:
    process = psutil.Process()
    pieces = [bytes(60_000) for _ in range(3000)]
    last = pieces.pop()  # keeps glibc from returning the memory below by itself
    pieces.clear()
    held = process.memory_info().rss
    machine.return_memory()
    assert process.memory_info().rss < held - 100e6
    assert len(last) == 60_000
