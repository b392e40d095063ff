"""Runs are timed in interleaved rounds and compared within each."""

from __future__ import annotations

import time

from tools.benchmarks.timing import Ratio, compare, interleaved


def test_ratio_is_taken_within_a_round() -> None:
    # The machine is ten times slower in the last round, for both.
    assert compare([2.0, 3.0, 40.0], [1.0, 1.0, 10.0]) == Ratio(median=3.0, lower=2.5, upper=3.5, fastest=2.0)


def test_round_runs_all_once_and_waits_for_the_device() -> None:
    calls: list[str] = []
    runs = {name: lambda name=name: calls.append(name) for name in "abc"}
    seconds = interleaved(runs, 4, synchronize=lambda: time.sleep(0.001))
    assert [sorted(calls[start : start + 3]) for start in range(0, 12, 3)] == [["a", "b", "c"]] * 4
    assert len({tuple(calls[start : start + 3]) for start in range(0, 12, 3)}) > 1
    assert [len(seconds[name]) for name in "abc"] == [4, 4, 4]
    assert min(min(times) for times in seconds.values()) >= 0.001
