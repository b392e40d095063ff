"""The benchmark of GPUs, on a CPU and small: what is measured, what is left out, and what happens without a GPU."""

from __future__ import annotations

import time

import pytest
import torch

from tools.benchmarks import gpu

CPU = torch.device("cpu")


def test_rates_are_images_by_median_duration(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    durations = iter([9.0, 9.0, 0.5, 0.25, 1.0])
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def run() -> None:
        now[0] += next(durations)

    assert gpu.images_per_second(run, 8, seconds=0) == 8 / 0.5


def test_forward_passes_and_maps_are_measured_in_all_precisions(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu, "SIZE", (64, 64))
    results = gpu.speeds("resnet18", CPU, (1, 2), seconds=0)
    assert [(entry.engine, entry.precision, entry.batch) for entry in results] == [
        ("eager", precision, batch) for precision in ("float32", "float16", "bfloat16") for batch in (1, 2)
    ]
    assert all(entry.forward > 0 and entry.maps > 0 for entry in results)
    assert "left out: compile, float16: Engine 'compile' runs on GPUs only" in capsys.readouterr().out
    gpu.show(results, {"Pillow": 100.0})
    assert "decoding 720 × 720 with Pillow: 100 images per second" in capsys.readouterr().out


def test_decoding_is_measured() -> None:
    rates = gpu.decoding_speeds(CPU, gpu.default_settings("resnet18"), seconds=0)
    assert rates["Pillow"] > 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_without_a_gpu_nothing_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu.main([]) == 1
    assert capsys.readouterr().err == "benchmark_gpu: not measured: there is no CUDA device\n"
