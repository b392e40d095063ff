"""The contests and their comparisons by value, and each contest once on small inputs."""

from __future__ import annotations

import pytest
import torch

from tools.benchmarks import implementations
from tools.benchmarks.contest import Benchmark, Contest, comparisons, contests
from tools.benchmarks.implementations import (
    OURS,
    OURS_MANY,
    PLAIN,
    PLAIN_LAYOUT,
    Explain,
    baselines,
    ours,
    two_hooks,
)


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Benchmark:
    monkeypatch.setattr(implementations, "INPUT_SIZE", (64, 64))
    return Benchmark("resnet18", "cpu")


def test_comparisons_of_a_contest() -> None:
    seconds = {
        PLAIN: [1.0],
        PLAIN_LAYOUT: [0.5],
        OURS: [1.05],
        OURS_MANY: [2.1],
        "torch-cam": [1.0],
        "pytorch-grad-cam": [4.2],
    }
    results = [(entry.measured, entry.reference, entry.ratio.median) for entry in comparisons("gradcam", 8, seconds)]
    assert results == [
        (OURS, PLAIN, 1.05),
        (OURS, PLAIN_LAYOUT, 2.1),
        (OURS_MANY, OURS, 2.0),
        ("torch-cam", OURS, 1 / 1.05),
        ("pytorch-grad-cam", OURS, 4.0),
    ]


def test_comparison_of_ablation_cam() -> None:
    (entry,) = comparisons("ablationcam", 1, {OURS: [0.1], "pytorch-grad-cam": [3.0]})
    assert entry.ratio.median == pytest.approx(30)


def test_slow_methods_run_in_fewer_rounds() -> None:
    rounds = {(contest.method, contest.batch): contest.rounds for contest in contests(30, "cpu")}
    assert rounds["gradcam", 8] == rounds["layercam", 1] == 30
    assert rounds["ablationcam", 1] == rounds["scorecam", 1] == 3


def test_gpu_gets_larger_batches() -> None:
    batches = {device: {entry.batch for entry in contests(30, device)} for device in ("cpu", "cuda")}
    assert batches == {"cpu": {1, 8}, "cuda": {1, 8, 32, 128, 256}}


def test_baseline_that_fails_is_left_out_with_its_reason(benchmark: Benchmark, monkeypatch: pytest.MonkeyPatch) -> None:
    def unavailable(model: torch.nn.Module, layer: str, method: str) -> Explain:
        raise ImportError("no")

    monkeypatch.setattr(implementations, "torchcam", unavailable)
    seconds = benchmark.run(Contest("layercam", 1, 1))
    assert set(seconds) == {OURS, "pytorch-grad-cam"}
    assert benchmark.left_out == {"torch-cam, layercam": "no"}


def test_all_participants_run(benchmark: Benchmark) -> None:
    seconds = benchmark.run(Contest("gradcam", 2, 1))
    assert set(seconds) | {name.rpartition(", ")[0] for name in benchmark.left_out} == {
        PLAIN,
        PLAIN_LAYOUT,
        OURS,
        OURS_MANY,
        *baselines("gradcam"),
    }
    # Which optional packages are installed depends on the Python version and on the environment.
    assert {name for name in benchmark.left_out if not name.startswith("torch-cam")} == set()


def test_two_hooks_give_the_same_map(benchmark: Benchmark) -> None:
    images = benchmark.images[:2]
    result = ours(benchmark.frozen(), benchmark.layer, "gradcam")(images)
    tutorial = two_hooks(benchmark.copied(), benchmark.layer, "gradcam")(images)
    torch.testing.assert_close(result, tutorial, rtol=1e-3, atol=1e-4)
