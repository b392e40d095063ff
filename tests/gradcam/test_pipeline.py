"""Requests to results: equal to the tutorial's maps, for batches in which any request may fail."""

from __future__ import annotations

import copy
import dataclasses

import cv2
import numpy as np
import pytest
import torch
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn

from gradcam.errors import (
    InvalidRequest,
    RequestError,
    TooExpensive,
    UndecodableImage,
    UnknownName,
)
from gradcam.message import Request, Result
from gradcam.options import Encoding, Options
from gradcam.pipeline import Pipeline
from tests.support import oracles
from tests.support.encoding import decoded
from tests.support.pipelines import (
    IMAGES,
    LABELS,
    LAYER,
    SETTINGS,
    answer,
    ask,
    assert_same_answer,
    heatmaps,
    png,
    result,
    with_settings,
)

# ----------------------------------------------------------------------------- the tutorial


@pytest.fixture(scope="module", params=["squash", "crop"])
def transformed(request: pytest.FixtureRequest, pipeline: Pipeline) -> tuple[Pipeline, list[Tensor]]:
    """A pipeline, and the inputs (1, 3, H, W) that torchvision's transforms make of the images."""
    crop_from = SETTINGS.resize_size if request.param == "crop" else None
    inputs = [oracles.model_input(image, input_size=(96, 128), crop_from=crop_from) for image in IMAGES]
    return with_settings(pipeline, transform=request.param), inputs


def test_the_predicted_class_is_explained_as_in_the_tutorial(
    transformed: tuple[Pipeline, list[Tensor]], model: nn.Module
) -> None:
    pipeline, inputs = transformed
    predicted = model(torch.cat(inputs)).argmax(dim=1).tolist()
    assert len(set(predicted)) > 1, "images of one class would verify less"
    results = answer(pipeline, *map(ask, IMAGES))
    expected = oracles.tutorial(model, LAYER, torch.cat(inputs), predicted)
    probabilities = expected.logits.softmax(dim=1)  # (B, K)
    ours = heatmaps(results)
    assert len(ours) == len(IMAGES)
    for row, answered in enumerate(results):
        assert isinstance(answered, Result)
        np.testing.assert_allclose(ours[row], expected.heatmaps[row], rtol=0, atol=1e-5)
        assert [p.index for p in answered.predictions] == probabilities[row].topk(5).indices.tolist()
        np.testing.assert_allclose(
            [p.probability for p in answered.predictions], probabilities[row].topk(5).values, rtol=1e-4, atol=1e-6
        )
        assert answered.explanations[0].prediction == answered.predictions[0]
        assert answered.explanations[0].prediction.label == LABELS.names[predicted[row]]


def test_chosen_classes_are_explained_as_in_the_tutorial(
    transformed: tuple[Pipeline, list[Tensor]], model: nn.Module
) -> None:
    pipeline, inputs = transformed
    for image, prepared in zip(IMAGES, inputs, strict=True):
        answered = result(pipeline, ask(image, targets=(9, 0, 4, 9)))
        assert [e.prediction.index for e in answered.explanations] == [9, 0, 4, 9]
        expected = oracles.tutorial(model, LAYER, prepared.expand(4, -1, -1, -1), [9, 0, 4, 9])
        for explanation, raw in zip(answered.explanations, expected.weighted_sum, strict=True):
            if raw.max() <= 0:
                assert not explanation.heatmap.any()
                assert explanation.peak is None
                assert explanation.strength == 0
            else:
                theirs = raw.relu() / raw.max()
                np.testing.assert_allclose(
                    explanation.heatmap * explanation.strength, raw.relu(), rtol=0, atol=1e-5 * float(raw.max())
                )
                np.testing.assert_allclose(explanation.heatmap, theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize("versus", [2, "Egyptian cat"])
def test_contrast_is_grad_cam_of_the_difference_of_two_logits(
    versus: int | str, pipeline: Pipeline, model: nn.Module
) -> None:
    other = LABELS.index(versus)
    for image in IMAGES:
        prepared = oracles.model_input(image, input_size=(96, 128))
        answered = result(pipeline, ask(image, targets=(9, 0, 4), versus=versus))
        expected = oracles.tutorial(model, LAYER, prepared.expand(3, -1, -1, -1), [9, 0, 4], versus=other)
        probability = float(expected.logits.softmax(dim=1)[0, other])
        for explanation, raw in zip(answered.explanations, expected.weighted_sum.relu(), strict=True):
            # Differences of logits cancel, so the tolerance is that of the logits themselves.
            np.testing.assert_allclose(explanation.heatmap * explanation.strength, raw, rtol=0, atol=1e-5)
            assert explanation.versus is not None
            assert (explanation.versus.index, explanation.versus.label) == (other, LABELS.names[other])
            assert explanation.versus.probability == pytest.approx(probability, rel=1e-4)


def test_contrast_of_one_request_leaves_its_neighbors_as_they_are(pipeline: Pipeline) -> None:
    requests = [
        ask(IMAGES[0], targets=(3,), method="layercam"),
        ask(IMAGES[0], targets=(3,), method="layercam", versus=4),
        ask(IMAGES[1], targets=(3,), method="finercam"),
        ask(IMAGES[1], targets=(5, 6), method="gradcam", versus=1),
    ]
    for together, request in zip(answer(pipeline, *requests), requests, strict=True):
        assert_same_answer(together, result(pipeline, request))
    plain, contrasted = heatmaps(answer(pipeline, *requests[:2]))
    assert np.abs(plain - contrasted).max() > 0.1


def test_classes_of_a_ranking_omit_the_contrasted_class(pipeline: Pipeline) -> None:
    ranked = [p.index for p in result(pipeline, ask(IMAGES[0], topk=10)).predictions]
    answered = result(pipeline, ask(IMAGES[0], explain=3, versus=ranked[1]))
    assert [e.prediction.index for e in answered.explanations] == [ranked[0], ranked[2], ranked[3]]


def test_default_number_of_explained_classes_is_a_setting(pipeline: Pipeline) -> None:
    three = with_settings(pipeline, explain=3)
    assert len(result(three, ask(IMAGES[0])).explanations) == 3
    assert len(result(three, ask(IMAGES[0], explain=0)).explanations) == 0
    assert len(result(three, ask(IMAGES[0], targets=(1,))).explanations) == 1
    assert result(with_settings(pipeline, explain=0), ask(IMAGES[0])).explanations == []


def test_maps_equal_pytorch_grad_cam_before_its_normalization(pipeline: Pipeline, model: nn.Module) -> None:
    reference_model = copy.deepcopy(model).requires_grad_(True)
    layer = reference_model.get_submodule(LAYER)
    inputs = torch.cat([oracles.model_input(image, input_size=(96, 128)) for image in IMAGES])
    class_targets = [ClassifierOutputTarget(2)] * len(IMAGES)
    with GradCAM(model=reference_model, target_layers=[layer]) as reference:
        reference.activations_and_grads(inputs)[:, 2].sum().backward()
        (activations,), (gradients,) = (
            reference.activations_and_grads.activations,
            reference.activations_and_grads.gradients,
        )
        raw = reference.get_cam_image(inputs, layer, class_targets, activations.numpy(), gradients.numpy())  # (B, h, w)
    ours = heatmaps(answer(pipeline, *(ask(image, targets=(2,)) for image in IMAGES)))
    assert any(theirs.max() > 0 for theirs in raw)
    for mine, theirs in zip(ours, raw, strict=True):
        np.testing.assert_allclose(mine, np.maximum(theirs, 0) / max(theirs.max(), 1e-30), rtol=0, atol=1e-5)


@pytest.mark.parametrize("accept", [None, "png"])
def test_the_overlay_equals_the_tutorials(pipeline: Pipeline, accept: Encoding | None) -> None:
    image = IMAGES[0]
    answered = result(pipeline, ask(image, accept, overlay="none" if accept else "png"))
    (explanation,) = answered.explanations
    assert explanation.overlay is not None
    drawn = cv2.imdecode(np.frombuffer(explanation.overlay, np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(drawn, oracles.overlay(np.asarray(image), explanation.heatmap))


def test_the_overlay_of_a_crop_leaves_the_rest_of_the_image_unchanged(pipeline: Pipeline) -> None:
    image = np.asarray(IMAGES[0])
    answered = result(with_settings(pipeline, transform="crop"), ask(IMAGES[0], overlay="png"))
    (explanation,), region = answered.explanations, answered.region
    assert explanation.overlay is not None
    drawn = cv2.imdecode(np.frombuffer(explanation.overlay, np.uint8), cv2.IMREAD_COLOR)
    inside = np.s_[region.top : region.bottom, region.left : region.right]
    expected = image[:, :, ::-1].copy()
    expected[inside] = oracles.overlay(np.ascontiguousarray(image[inside]), explanation.heatmap)
    np.testing.assert_array_equal(drawn, expected)
    assert 0 < region.left < region.right < 300
    assert 0 < region.top < region.bottom < 200


# ----------------------------------------------------------------------------- batches

MIXED: list[Request | RequestError] = [
    ask(IMAGES[0], targets=(1, 2, 3)),
    InvalidRequest("there is no image"),
    ask(IMAGES[1], explain=0),
    Request(b"not a image", Options()),
    ask(IMAGES[2], explain=4, topk=2),
    ask(IMAGES[3], targets=("unicorn",)),
    ask(IMAGES[3], overlay="jpeg"),
    Request(png(IMAGES[4])[:200], Options()),
]


def test_a_batch_of_8_equals_8_singles(pipeline: Pipeline) -> None:
    requests = [ask(IMAGES[i % 5], explain=1 + i % 3) for i in range(8)]
    for together, alone in zip(answer(pipeline, *requests), (result(pipeline, r) for r in requests), strict=True):
        assert_same_answer(together, alone)


def test_failed_requests_keep_their_slots_and_do_not_affect_their_neighbors(pipeline: Pipeline) -> None:
    answers = answer(pipeline, *MIXED)
    good = [0, 2, 4, 6]
    for slot in good:
        request = MIXED[slot]
        assert isinstance(request, Request)
        assert_same_answer(answers[slot], result(pipeline, request))
        answered = answers[slot]
        assert isinstance(answered, Result)
        assert answered.request.image is request.image
    assert [len(answered.explanations) for answered in answers if isinstance(answered, Result)] == [3, 0, 4, 1]
    assert answers[1] is MIXED[1]
    assert [type(answers[slot]) for slot in (3, 5, 7)] == [UndecodableImage, UnknownName, UndecodableImage]


def test_a_batch_in_which_every_request_fails(pipeline: Pipeline) -> None:
    answers = answer(pipeline, *(MIXED[slot] for slot in (7, 5, 3, 1)))
    kinds = [UndecodableImage, UnknownName, UndecodableImage, InvalidRequest]
    assert [type(answered) for answered in answers] == kinds


def test_a_batch_without_explanations(pipeline: Pipeline) -> None:
    first, second = answer(pipeline, ask(IMAGES[0], explain=0), ask(IMAGES[1], explain=0))
    assert_same_answer(first, dataclasses.replace(result(pipeline, ask(IMAGES[0])), explanations=[]))
    assert_same_answer(second, dataclasses.replace(result(pipeline, ask(IMAGES[1])), explanations=[]))


@pytest.mark.parametrize("max_pairs", [1, 3, 7])
def test_pairs_replayed_in_chunks_give_the_same_maps(pipeline: Pipeline, max_pairs: int) -> None:
    requests = [ask(IMAGES[0], explain=4), ask(IMAGES[1], explain=0), ask(IMAGES[2], targets=(5, 1, 0, 2, 8))]
    chunked = with_settings(pipeline, max_replay_bytes=max_pairs * pipeline.splits[LAYER].replay_bytes)
    sizes: list[int] = []
    hook = chunked.splits[LAYER].head.register_forward_pre_hook(lambda _module, inputs: sizes.append(len(inputs[0])))
    try:
        answers = answer(chunked, *requests)
    finally:
        hook.remove()
    assert sizes[0] == 3, "the forward pass"
    assert sum(sizes[1:]) == 9
    assert max(sizes[1:]) <= max_pairs
    for ours, theirs in zip(answers, answer(pipeline, *requests), strict=True):
        assert_same_answer(ours, theirs)


def test_requests_leave_no_state_behind(pipeline: Pipeline) -> None:
    request = ask(IMAGES[0], explain=3, overlay="png")
    before = result(pipeline, request)
    state = {**vars(pipeline), "splits": copy.copy(vars(pipeline.splits))}
    layers, unsplittable = dict(pipeline.splits.by_layer), dict(pipeline.splits.unsplittable_layers)
    answer(pipeline, *MIXED)
    after = result(pipeline, request)
    assert {**vars(pipeline), "splits": vars(pipeline.splits)} == state
    assert pipeline.splits.by_layer == layers
    assert pipeline.splits.unsplittable_layers == unsplittable
    assert_same_answer(before, after, tolerance=0)
    # The pixels only: an overlay also states the second in which it was made.
    for one, other in zip(before.explanations, after.explanations, strict=True):
        np.testing.assert_array_equal(decoded(one.overlay or b""), decoded(other.overlay or b""))


def test_no_parameter_keeps_a_gradient(pipeline: Pipeline, model: nn.Module) -> None:
    result(pipeline, ask(IMAGES[0], explain=10))
    for part in (model, pipeline.splits[LAYER].trunk, pipeline.splits[LAYER].head):
        assert isinstance(part, nn.Module)
        assert all(parameter.grad is None and not parameter.requires_grad for parameter in part.parameters())


def test_the_trunk_runs_once_for_any_number_of_explanations(pipeline: Pipeline) -> None:
    calls: list[int] = []
    trunk = pipeline.splits[LAYER].trunk
    assert isinstance(trunk, nn.Module)
    hook = trunk.register_forward_pre_hook(lambda _module, inputs: calls.append(len(inputs[0])))
    try:
        answer(pipeline, *(ask(image, explain=10) for image in IMAGES))
    finally:
        hook.remove()
    assert calls == [len(IMAGES)]


# ----------------------------------------------------------------------------- options


def test_explain_n_explains_the_n_most_probable(pipeline: Pipeline) -> None:
    answered = result(pipeline, ask(IMAGES[0], explain=4, topk=10))
    assert len(answered.predictions) == 10
    assert [e.prediction for e in answered.explanations] == answered.predictions[:4]
    assert sum(p.probability for p in answered.predictions) == pytest.approx(1, abs=1e-5)
    named = result(pipeline, ask(IMAGES[0], targets=tuple(p.index for p in answered.predictions[:4])))
    assert_same_answer(dataclasses.replace(named, predictions=answered.predictions), answered)


def test_targets_may_be_labels(pipeline: Pipeline) -> None:
    by_label = result(pipeline, ask(IMAGES[0], targets=("egyptian CAT", 4, "dog")))
    by_index = result(pipeline, ask(IMAGES[0], targets=(8, 4, 2)))
    assert [e.prediction.label for e in by_label.explanations] == ["Egyptian cat", "crane", "dog"]
    assert_same_answer(by_label, by_index)


def test_the_models_own_layer_and_method_may_be_named(pipeline: Pipeline) -> None:
    named = result(pipeline, ask(IMAGES[0], layer=(LAYER,), method="gradcam"))
    assert (named.layers, named.method) == ((LAYER,), "gradcam")
    assert_same_answer(named, result(pipeline, ask(IMAGES[0])))


# ----------------------------------------------------------------------------- limits


def test_a_layer_named_twice_counts_once(pipeline: Pipeline) -> None:
    twice = result(pipeline, ask(IMAGES[0], layer=("layer3", "layer3")))
    assert twice.layers == ("layer3",)
    assert_same_answer(twice, result(pipeline, ask(IMAGES[0], layer=("layer3",))))


def test_expensive_requests_time_out_and_their_neighbors_are_answered(pipeline: Pipeline) -> None:
    hurried = with_settings(pipeline, max_batch_seconds=1e-9, max_replay_bytes=1)
    requests = [
        ask(IMAGES[0], method="scorecam"),
        ask(IMAGES[1]),
        ask(IMAGES[2], method="ablationcam"),
        ask(IMAGES[3], smooth=True),
        ask(IMAGES[4], explain=5),
    ]
    # Decoding has a deadline of its own.
    batch = dataclasses.replace(pipeline.preprocess(requests), deadline=0.0)
    with torch.enable_grad():
        answers = hurried.results(hurried.explain(hurried.inference(batch)))
    assert_same_answer(answers[1], result(pipeline, requests[1]))
    for rejected in (answers[0], *answers[2:]):
        assert isinstance(rejected, TooExpensive)
        assert (rejected.status, rejected.code) == (422, "too_expensive")
    assert "exceeded by scorecam at layer4.1.conv2;" in str(answers[0])


def test_images_that_cannot_be_decoded_in_time_are_rejected(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    hurried = with_settings(pipeline, max_batch_seconds=2)
    clock = iter([0.0, 0.5, 0.9, 1.1])
    monkeypatch.setattr("gradcam.pipeline.time.monotonic", lambda: next(clock))
    several = [dataclasses.replace(ask(image), images_in_request=2) for image in IMAGES[:2]]
    batch = hurried.preprocess([*several, ask(IMAGES[2])])
    assert batch.deadline == 2
    # The single one goes first, then the smaller of the two.
    assert [type(item).__name__ for item in batch.items] == ["TooExpensive", "Item", "Item"]


# ----------------------------------------------------------------------------- several passes, lower precision


def test_requests_of_one_batch_differ_in_layers_methods_and_smoothing(pipeline: Pipeline) -> None:
    requests = [
        ask(IMAGES[0]),
        ask(IMAGES[1], layer=("layer3",), method="layercam", explain=2),
        ask(IMAGES[2], layer=(LAYER, "layer3"), targets=(3,)),
        ask(IMAGES[0], smooth=True, targets=(1, 2)),
        ask(IMAGES[1], explain=0, smooth=True, layer=("layer3",)),
    ]
    together = answer(pipeline, *requests)
    for ours, request in zip(together, requests, strict=True):
        assert_same_answer(ours, result(pipeline, request))
    assert [ours.layers for ours in together if isinstance(ours, Result)] == [
        (LAYER,),
        ("layer3",),
        (LAYER, "layer3"),
        (LAYER,),
        ("layer3",),
    ]


def test_fused_layers_are_the_mean_of_each_layers_map(pipeline: Pipeline) -> None:
    single = [result(pipeline, ask(IMAGES[0], layer=(layer,), targets=(3,))) for layer in ("layer4", "layer3")]
    fused = result(pipeline, ask(IMAGES[0], layer=("layer4", "layer3"), targets=(3,)))
    coarse, fine = (answered.explanations[0].heatmap for answered in single)
    height, width = fine.shape
    resized = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    mean = (resized + fine) / 2
    np.testing.assert_allclose(fused.explanations[0].heatmap, mean / mean.max(), atol=1e-5)
    strengths = [answered.explanations[0].strength for answered in single]
    assert fused.explanations[0].strength == pytest.approx(sum(strengths) / 2, rel=1e-5)


def test_smoothing_is_the_mean_over_flipped_and_scaled_inputs(pipeline: Pipeline, model: nn.Module) -> None:
    inputs = oracles.model_input(IMAGES[0], input_size=SETTINGS.input_size)
    maps = []
    for factor in (0.9, 1.0, 1.1):
        straight = oracles.tutorial(model, LAYER, inputs * factor, [3]).heatmaps[0]
        mirrored = oracles.tutorial(model, LAYER, (inputs * factor).flip(3), [3]).heatmaps[0].flip(1)
        maps += [straight, mirrored]
    mean = torch.stack(maps).nan_to_num().mean(dim=0)
    smooth = result(pipeline, ask(IMAGES[0], smooth=True, targets=(3,)))
    np.testing.assert_allclose(smooth.explanations[0].heatmap, mean / mean.max(), atol=1e-4)


def test_describe_has_everything_that_a_map_depends_on(pipeline: Pipeline) -> None:
    described = pipeline.describe()
    assert list(described) == [
        *SETTINGS.to_mapping(),
        *("layers", "cut", "effective_precision", "decoder", "labels", "device"),
    ]
    assert {key: described[key] for key in SETTINGS.to_mapping()} == SETTINGS.to_mapping()
    assert described["layers"][0] == "conv1"
    assert (described["cut"], described["engine"], described["decoder"]) == ("fx", "eager", "pillow")
    assert described["effective_precision"] == "float32"
    assert (described["labels"], described["device"]) == (list(LABELS.names), "cpu")
