"""The slope of memory over requests."""

from __future__ import annotations

from tools.load.soak import per_thousand


def test_memory_per_thousand() -> None:
    assert per_thousand([0, 500, 1000], [100.0, 101.0, 102.0]) == 2.0
