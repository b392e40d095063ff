"""Expensive requests: their time beside others, and the turn that workers share."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from gradcam.errors import TooExpensive
from gradcam.message import Result
from gradcam.pipeline import Pipeline
from gradcam.turn import Turn
from tests.support.pipelines import IMAGES, LAYER, answer, ask, assert_same_answer, result, with_settings

CHEAP = ask(IMAGES[1], targets=(3, 4))
SCORECAM = ask(IMAGES[0], method="scorecam", layer=("layer1",))
ABLATIONCAM = ask(IMAGES[2], method="ablationcam")


@pytest.fixture(scope="module")
def patient(pipeline: Pipeline) -> Pipeline:
    return with_settings(pipeline, max_batch_seconds=600, max_delay_seconds=600)


def test_expensive_requests_beside_others_have_less_time(pipeline: Pipeline) -> None:
    hurried = with_settings(pipeline, max_batch_seconds=600, max_delay_seconds=1e-9)
    scorecam, cheap, ablationcam = answer(hurried, SCORECAM, CHEAP, ABLATIONCAM)
    assert_same_answer(cheap, result(pipeline, CHEAP))
    for rejected, method in ((scorecam, "scorecam at layer1"), (ablationcam, f"ablationcam at {LAYER}")):
        assert isinstance(rejected, TooExpensive)
        assert str(rejected) == (
            f"Time limit of 1e-09 s exceeded by {method}, because the request shared its batch with others "
            "('max_delay_seconds'); send it again when the server is idle"
        )


def test_expensive_requests_alone_have_the_time_of_a_batch(pipeline: Pipeline) -> None:
    hurried = with_settings(pipeline, max_batch_seconds=600, max_delay_seconds=1e-9)
    assert all(isinstance(answered, Result) for answered in answer(hurried, SCORECAM, ABLATIONCAM))


def test_another_workers_turn_rejects_expensive_requests_only(patient: Pipeline, tmp_path: Path) -> None:
    requests = [SCORECAM, CHEAP, ABLATIONCAM, ask(IMAGES[3], method="scorecam", explain=0)]
    alone = answer(patient, *requests)
    assert all(isinstance(answered, Result) for answered in alone)
    patient.batch_explainer.turn = Turn(tmp_path)
    with Turn(tmp_path).take():
        scorecam, cheap, ablationcam, unexplained = answer(patient, *requests)
    for rejected in (scorecam, ablationcam):
        assert isinstance(rejected, TooExpensive)
        assert str(rejected).startswith("Another worker runs scorecam or ablationcam")
    assert_same_answer(cheap, alone[1])
    assert_same_answer(unexplained, alone[3])
    for ours, theirs in zip(answer(patient, *requests), alone, strict=True):
        assert_same_answer(ours, theirs)


def test_masked_images_go_through_the_network_in_batches_that_it_runs_anyway(pipeline: Pipeline) -> None:
    small = Pipeline(pipeline.network, pipeline.labels, pipeline.settings, pipeline.device, max_forward=5)
    sizes: list[int] = []
    small.splits.prepare("layer1", math.inf)
    hook = small.splits["layer1"].trunk.register_forward_pre_hook(  # type: ignore[attr-defined]
        lambda _module, inputs: sizes.append(len(inputs[0]))
    )
    try:
        result(small, SCORECAM)
    finally:
        hook.remove()
    assert sizes == [1, *[5] * 12, 4], "the image, then 64 channels"
