"""The figures by value; the contests and the memory watch once, on small inputs."""

from __future__ import annotations

import time

import pytest
import torch
from rich.console import Console

from tools.benchmarks import methods as benchmark_methods
from tools.benchmarks.methods import (
    OURS,
    OURS_MANY,
    PLAIN,
    PLAIN_LAYOUT,
    Benchmark,
    Contest,
    Goal,
    Ratio,
    Row,
    compare,
    contests,
    interleaved,
    peers,
    rows,
    soak_result,
    table,
)


def test_ratio_is_taken_within_a_round() -> None:
    # The machine is ten times slower in the last round, for both.
    assert compare([2.0, 3.0, 40.0], [1.0, 1.0, 10.0]) == Ratio(median=3.0, lower=2.5, upper=3.5, fastest=2.0)


@pytest.mark.parametrize(
    ("goal", "ratio", "met"),
    [
        (Goal(1.1), 1.1, True),
        (Goal(1.1), 1.11, False),
        (Goal(20, at_least=True), 20.0, True),
        (Goal(20, at_least=True), 19.9, False),
    ],
)
def test_goal_is_judged_by_the_median(goal: Goal, ratio: float, met: bool) -> None:
    assert goal.met(Ratio(ratio, 0, 100, 0)) is met


def test_a_round_runs_everybody_once_and_counts_the_device() -> None:
    calls: list[str] = []
    runs = {name: lambda name=name: calls.append(name) for name in "abc"}
    seconds = interleaved(runs, 4, synchronize=lambda: time.sleep(0.001))
    assert [sorted(calls[start : start + 3]) for start in range(0, 12, 3)] == [["a", "b", "c"]] * 4
    assert len({tuple(calls[start : start + 3]) for start in range(0, 12, 3)}) > 1
    assert [len(seconds[name]) for name in "abc"] == [4, 4, 4]
    assert min(min(times) for times in seconds.values()) >= 0.001


def test_lines_of_a_contest() -> None:
    seconds = {
        PLAIN: [1.0],
        PLAIN_LAYOUT: [0.5],
        OURS: [1.05],
        OURS_MANY: [2.1],
        "torch-cam": [1.0],
        "pytorch-grad-cam": [4.2],
    }
    found = [(line.measured, line.reference, line.ratio.median, line.goal) for line in rows("gradcam", 8, seconds)]
    assert found == [
        (OURS, PLAIN, 1.05, Goal(1.1)),
        (OURS, PLAIN_LAYOUT, 2.1, Goal(1.1)),
        (OURS_MANY, OURS, 2.0, Goal(1.25)),
        ("torch-cam", OURS, 1 / 1.05, Goal(1, at_least=True)),
        ("pytorch-grad-cam", OURS, 4.0, None),
    ]


def test_goal_of_ablation_cam() -> None:
    (line,) = rows("ablationcam", 1, {OURS: [0.1], "pytorch-grad-cam": [3.0]})
    assert (line.ratio.median, line.goal) == (pytest.approx(30), Goal(20, at_least=True))


def test_slow_methods_run_in_fewer_rounds() -> None:
    rounds = {(contest.method, contest.batch): contest.rounds for contest in contests(30, "cpu")}
    assert rounds["gradcam", 8] == rounds["layercam", 1] == 30
    assert rounds["ablationcam", 1] == rounds["scorecam", 1] == 3


def test_a_gpu_gets_larger_batches() -> None:
    batches = {device: {entry.batch for entry in contests(30, device)} for device in ("cpu", "cuda")}
    assert batches == {"cpu": {1, 8}, "cuda": {1, 8, 32, 128, 256}}


def test_table_says_which_goals_are_met() -> None:
    ratio = Ratio(1.2, 1.15, 1.3, 1.1)
    console = Console(width=150)
    with console.capture() as capture:
        console.print(table([Row("gradcam", 8, OURS, PLAIN, ratio, Goal(1.1))], "title"))
    (line,) = [line for line in capture.get().splitlines() if "gradcam" in line]
    cells = [cell.strip() for cell in line.strip("│").split("│")]
    assert cells == ["gradcam", "8", f"{OURS} ÷ {PLAIN}", "1.200", "1.150 … 1.300", "1.100", "≤ 1.1", "not met"]


def test_slope_of_memory() -> None:
    result = soak_result([0, 500, 1000], [100.0, 101.0, 102.0])
    assert (result.explanations, result.before, result.after) == (1000, 100.0, 102.0)
    assert result.per_thousand == pytest.approx(2.0)


def test_a_peer_that_fails_is_left_out_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark_methods, "INPUT_SIZE", (64, 64))
    monkeypatch.setattr(benchmark_methods, "torchcam", _unable)
    benchmark = Benchmark("resnet18", "cpu")
    seconds = benchmark.run(Contest("layercam", 1, 1))
    assert set(seconds) == {OURS, "pytorch-grad-cam"}
    assert benchmark.left_out == {"torch-cam, layercam": "no"}


def _unable(model: torch.nn.Module, layer: str, method: str) -> benchmark_methods.Explain:
    raise ImportError("no")


def test_everybody_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark_methods, "INPUT_SIZE", (64, 64))
    benchmark = Benchmark("resnet18", "cpu")
    seconds = benchmark.run(Contest("gradcam", 2, 1))
    assert set(seconds) | {name.rpartition(", ")[0] for name in benchmark.left_out} == {
        PLAIN,
        PLAIN_LAYOUT,
        OURS,
        OURS_MANY,
        benchmark_methods.OURS_OPENVINO,
        *peers("gradcam"),
    }
    # Which of the optional packages there are depends on the Python, and on who installed what.
    assert {name for name in benchmark.left_out if not name.startswith(("torch-cam", "ours, openvino"))} == set()


def test_contestants_give_the_same_map(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark_methods, "INPUT_SIZE", (64, 64))
    benchmark = Benchmark("resnet18", "cpu")
    images = benchmark.images[:2]
    own = benchmark_methods.ours(benchmark._frozen(), benchmark.layer, "gradcam")(images)
    tutorial = benchmark_methods.two_hooks(benchmark._copy(), benchmark.layer, "gradcam")(images)
    torch.testing.assert_close(own, tutorial, rtol=1e-3, atol=1e-4)


def test_memory_is_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark_methods, "SOAK_METHODS", ("gradcam", "eigencam"))
    result = benchmark_methods.soak("resnet18", 4)
    assert result.explanations == 4
    assert result.before > 0
