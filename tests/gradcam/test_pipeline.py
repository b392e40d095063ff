"""Requests to results: the tutorial's maps on pictures, and a network whose maps can be worked out by hand."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn

from gradcam.errors import (
    InvalidOption,
    InvalidRequest,
    NumericalOverflow,
    RequestError,
    TooExpensive,
    TooLarge,
    TooMany,
    UndecodableImage,
    UnknownName,
)
from gradcam.images.geometry import Region
from gradcam.message import Request, Result
from gradcam.network import architecture as network
from gradcam.network.labels import Labels
from gradcam.options import Encoding, Options
from gradcam.pipeline import Pipeline
from tests.support import oracles
from tests.support.encoding import encoded
from tests.support.settings import settings

CPU = torch.device("cpu")
LAYER = "layer4.1.conv2"
LABELS = Labels(("tench", "cat", "dog", "hen", "crane", "ibex", "newt", "crane", "Egyptian cat", "owl"))
SETTINGS = settings(num_classes=10, input_size=(96, 128), engine="eager", resize_size=140)

# Wide, high, smaller than the input, and as large as the input.
PICTURES = [
    oracles.seeded_image(width, height, seed)
    for seed, (width, height) in enumerate([(300, 200), (150, 310), (50, 40), (128, 96), (211, 211)])
]


def png(picture: Image.Image) -> bytes:
    return encoded(picture, "PNG")


def ask(picture: Image.Image, accept: Encoding | None = None, **options: Any) -> Request:
    return Request(png(picture), Options(**options), accept)


def answer(pipeline: Pipeline, *requests: Request | RequestError) -> list[Result | RequestError]:
    return pipeline.answer(requests)


def result(pipeline: Pipeline, request: Request) -> Result:
    (only,) = answer(pipeline, request)
    assert isinstance(only, Result), only
    return only


def refusal(pipeline: Pipeline, request: Request) -> RequestError:
    (only,) = answer(pipeline, request)
    assert isinstance(only, RequestError)
    return only


def heatmaps(results: Sequence[Result | RequestError]) -> list[NDArray[np.float32]]:
    return [
        explanation.heatmap
        for answered in results
        if isinstance(answered, Result)
        for explanation in answered.explanations
    ]


def assert_same_answer(ours: Result | RequestError, theirs: Result | RequestError, tolerance: float = 1e-5) -> None:
    assert isinstance(ours, Result)
    assert isinstance(theirs, Result)
    assert [p.index for p in ours.predictions] == [p.index for p in theirs.predictions]
    assert [p.label for p in ours.predictions] == [p.label for p in theirs.predictions]
    probabilities = [[p.probability for p in answered.predictions] for answered in (ours, theirs)]
    np.testing.assert_allclose(*probabilities, rtol=0, atol=tolerance)
    assert [e.prediction.index for e in ours.explanations] == [e.prediction.index for e in theirs.explanations]
    for mine, other in zip(ours.explanations, theirs.explanations, strict=True):
        np.testing.assert_allclose(mine.heatmap, other.heatmap, rtol=0, atol=tolerance)
        assert mine.peak == other.peak


@pytest.fixture(scope="module")
def model() -> nn.Module:
    """A network that does not call every picture the same, as random weights do."""
    network_ = oracles.seeded(network.build("resnet18", SETTINGS.num_classes), seed=3)
    inputs = torch.cat([oracles.model_input(picture, input_size=(96, 128)) for picture in PICTURES])
    network_.fc.bias -= network_(inputs).mean(dim=0)  # type: ignore[operator]
    return network_


@pytest.fixture(scope="module")
def pipeline(model: nn.Module) -> Pipeline:
    return Pipeline(model, LABELS, SETTINGS, CPU)


def with_settings(pipeline: Pipeline, **changes: Any) -> Pipeline:
    return Pipeline(pipeline.network, LABELS, dataclasses.replace(SETTINGS, **changes), CPU)


# ----------------------------------------------------------------------------- the tutorial


@pytest.fixture(scope="module", params=["squash", "crop"])
def transformed(request: pytest.FixtureRequest, pipeline: Pipeline) -> tuple[Pipeline, list[Tensor]]:
    """A pipeline, and the inputs (1, 3, H, W) that torchvision's transforms make of the pictures."""
    crop_from = SETTINGS.resize_size if request.param == "crop" else None
    inputs = [oracles.model_input(picture, input_size=(96, 128), crop_from=crop_from) for picture in PICTURES]
    return with_settings(pipeline, transform=request.param), inputs


def test_the_predicted_class_is_explained_as_in_the_tutorial(
    transformed: tuple[Pipeline, list[Tensor]], model: nn.Module
) -> None:
    pipeline, inputs = transformed
    predicted = model(torch.cat(inputs)).argmax(dim=1).tolist()
    assert len(set(predicted)) > 1, "pictures of one class prove less"
    results = answer(pipeline, *map(ask, PICTURES))
    expected = oracles.tutorial(model, LAYER, torch.cat(inputs), predicted)
    probabilities = expected.logits.softmax(dim=1)  # (B, K)
    ours = heatmaps(results)
    assert len(ours) == len(PICTURES)
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
    for picture, prepared in zip(PICTURES, inputs, strict=True):
        answered = result(pipeline, ask(picture, targets=(9, 0, 4, 9)))
        assert [e.prediction.index for e in answered.explanations] == [9, 0, 4, 9]
        expected = oracles.tutorial(model, LAYER, prepared.expand(4, -1, -1, -1), [9, 0, 4, 9])
        for explanation, raw in zip(answered.explanations, expected.weighted_sum, strict=True):
            if raw.max() <= 0:
                assert not explanation.heatmap.any()
                assert explanation.peak is None
            else:
                theirs = raw.relu() / raw.max()
                np.testing.assert_allclose(explanation.heatmap, theirs, rtol=0, atol=1e-5)


def test_maps_are_pytorch_grad_cams_before_its_normalisation(pipeline: Pipeline, model: nn.Module) -> None:
    peer_model = copy.deepcopy(model).requires_grad_(True)
    layer = peer_model.get_submodule(LAYER)
    inputs = torch.cat([oracles.model_input(picture, input_size=(96, 128)) for picture in PICTURES])
    goals = [ClassifierOutputTarget(2)] * len(PICTURES)
    with GradCAM(model=peer_model, target_layers=[layer]) as peer:
        peer.activations_and_grads(inputs)[:, 2].sum().backward()
        (activations,), (gradients,) = peer.activations_and_grads.activations, peer.activations_and_grads.gradients
        raw = peer.get_cam_image(inputs, layer, goals, activations.numpy(), gradients.numpy())  # (B, h, w)
    ours = heatmaps(answer(pipeline, *(ask(picture, targets=(2,)) for picture in PICTURES)))
    assert any(theirs.max() > 0 for theirs in raw)
    for mine, theirs in zip(ours, raw, strict=True):
        np.testing.assert_allclose(mine, np.maximum(theirs, 0) / max(theirs.max(), 1e-30), rtol=0, atol=1e-5)


@pytest.mark.parametrize("accept", [None, "png"])
def test_the_overlay_is_the_tutorials(pipeline: Pipeline, accept: Encoding | None) -> None:
    picture = PICTURES[0]
    answered = result(pipeline, ask(picture, accept, overlay="none" if accept else "png"))
    (explanation,) = answered.explanations
    assert explanation.overlay is not None
    decoded = cv2.imdecode(np.frombuffer(explanation.overlay, np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(decoded, oracles.overlay(np.asarray(picture), explanation.heatmap))


def test_the_overlay_of_a_crop_leaves_the_rest_of_the_picture_alone(pipeline: Pipeline) -> None:
    picture = np.asarray(PICTURES[0])
    answered = result(with_settings(pipeline, transform="crop"), ask(PICTURES[0], overlay="png"))
    (explanation,), region = answered.explanations, answered.region
    assert explanation.overlay is not None
    decoded = cv2.imdecode(np.frombuffer(explanation.overlay, np.uint8), cv2.IMREAD_COLOR)
    inside = np.s_[region.top : region.bottom, region.left : region.right]
    expected = picture[:, :, ::-1].copy()
    expected[inside] = oracles.overlay(np.ascontiguousarray(picture[inside]), explanation.heatmap)
    np.testing.assert_array_equal(decoded, expected)
    assert 0 < region.left < region.right < 300
    assert 0 < region.top < region.bottom < 200


# ----------------------------------------------------------------------------- batches

MIXED: list[Request | RequestError] = [
    ask(PICTURES[0], targets=(1, 2, 3)),
    InvalidRequest("there is no picture"),
    ask(PICTURES[1], explain=0),
    Request(b"not a picture", Options()),
    ask(PICTURES[2], explain=4, topk=2),
    ask(PICTURES[3], targets=("unicorn",)),
    ask(PICTURES[3], overlay="jpeg"),
    Request(png(PICTURES[4])[:200], Options()),
]


def test_a_batch_of_8_equals_8_singles(pipeline: Pipeline) -> None:
    requests = [ask(PICTURES[i % 5], explain=1 + i % 3) for i in range(8)]
    for together, alone in zip(answer(pipeline, *requests), (result(pipeline, r) for r in requests), strict=True):
        assert_same_answer(together, alone)


def test_bad_rows_keep_their_slots_and_their_neighbours_their_answers(pipeline: Pipeline) -> None:
    answers = answer(pipeline, *MIXED)
    good = [0, 2, 4, 6]
    for slot in good:
        request = MIXED[slot]
        assert isinstance(request, Request)
        assert_same_answer(answers[slot], result(pipeline, request))
        answered = answers[slot]
        assert isinstance(answered, Result)
        assert answered.request is request
    assert [len(answered.explanations) for answered in answers if isinstance(answered, Result)] == [3, 0, 4, 1]
    assert answers[1] is MIXED[1]
    assert [type(answers[slot]) for slot in (3, 5, 7)] == [UndecodableImage, UnknownName, UndecodableImage]


def test_a_batch_without_a_good_row_is_answered(pipeline: Pipeline) -> None:
    answers = answer(pipeline, *(MIXED[slot] for slot in (7, 5, 3, 1)))
    kinds = [UndecodableImage, UnknownName, UndecodableImage, InvalidRequest]
    assert [type(answered) for answered in answers] == kinds


def test_a_batch_of_which_nothing_is_explained(pipeline: Pipeline) -> None:
    first, second = answer(pipeline, ask(PICTURES[0], explain=0), ask(PICTURES[1], explain=0))
    assert_same_answer(first, dataclasses.replace(result(pipeline, ask(PICTURES[0])), explanations=[]))
    assert_same_answer(second, dataclasses.replace(result(pipeline, ask(PICTURES[1])), explanations=[]))


@pytest.mark.parametrize("max_pairs", [1, 3, 7])
def test_more_pairs_than_are_replayed_at_once_give_the_same_maps(pipeline: Pipeline, max_pairs: int) -> None:
    requests = [ask(PICTURES[0], explain=4), ask(PICTURES[1], explain=0), ask(PICTURES[2], targets=(5, 1, 0, 2, 8))]
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


def test_nothing_stays_from_one_request_to_the_next(pipeline: Pipeline) -> None:
    request = ask(PICTURES[0], explain=3, overlay="png")
    before = result(pipeline, request)
    state = dict(vars(pipeline))
    answer(pipeline, *MIXED)
    after = result(pipeline, request)
    assert vars(pipeline) == state
    assert_same_answer(before, after, tolerance=0)
    assert [e.overlay for e in before.explanations] == [e.overlay for e in after.explanations]


def test_no_gradient_stays_on_a_parameter(pipeline: Pipeline, model: nn.Module) -> None:
    result(pipeline, ask(PICTURES[0], explain=10))
    for part in (model, pipeline.splits[LAYER].trunk, pipeline.splits[LAYER].head):
        assert all(parameter.grad is None and not parameter.requires_grad for parameter in part.parameters())


def test_the_trunk_runs_once_however_much_is_explained(pipeline: Pipeline) -> None:
    calls: list[int] = []
    hook = pipeline.splits[LAYER].trunk.register_forward_pre_hook(lambda _module, inputs: calls.append(len(inputs[0])))
    try:
        answer(pipeline, *(ask(picture, explain=10) for picture in PICTURES))
    finally:
        hook.remove()
    assert calls == [len(PICTURES)]


# ----------------------------------------------------------------------------- options


def test_explain_n_explains_the_n_most_probable(pipeline: Pipeline) -> None:
    answered = result(pipeline, ask(PICTURES[0], explain=4, topk=10))
    assert len(answered.predictions) == 10
    assert [e.prediction for e in answered.explanations] == answered.predictions[:4]
    assert sum(p.probability for p in answered.predictions) == pytest.approx(1, abs=1e-5)
    named = result(pipeline, ask(PICTURES[0], targets=tuple(p.index for p in answered.predictions[:4])))
    assert_same_answer(dataclasses.replace(named, predictions=answered.predictions), answered)


def test_targets_may_be_labels(pipeline: Pipeline) -> None:
    by_label = result(pipeline, ask(PICTURES[0], targets=("egyptian CAT", 4, "dog")))
    by_index = result(pipeline, ask(PICTURES[0], targets=(8, 4, 2)))
    assert [e.prediction.label for e in by_label.explanations] == ["Egyptian cat", "crane", "dog"]
    assert_same_answer(by_label, by_index)


@pytest.mark.parametrize(
    ("options", "kind", "code", "message"),
    [
        ({"targets": ("crane",)}, UnknownName, "ambiguous_class", "4 and 7"),
        ({"targets": ("cart",)}, UnknownName, "unknown_class", "did you mean 'cat'"),
        ({"targets": (10,)}, UnknownName, "unknown_class", "between 0 and 9"),
        ({"targets": (1, -1)}, UnknownName, "unknown_class", "between 0 and 9"),
        ({"method": "grad-cam"}, UnknownName, "unknown_method", "did you mean 'gradcam'"),
        ({"layer": ("layer4.1.conv9",)}, UnknownName, "unknown_layer", "'layer4.1.conv2'"),
        ({"layer": ("avgpool",)}, UnknownName, "unknown_layer", "grid of positions"),
        ({"topk": 11}, InvalidOption, "invalid_option", "topk .* 10"),
        ({"explain": 11}, InvalidOption, "invalid_option", "explain .* 10"),
        ({"targets": (1,) * 101}, TooMany, "too_many_targets", "at most 100"),
        ({"colormap": "jett"}, InvalidOption, "invalid_option", "did you mean 'jet'"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_options_are_checked_against_the_model(
    pipeline: Pipeline, options: dict[str, Any], kind: type[RequestError], code: str, message: str
) -> None:
    error = refusal(pipeline, ask(PICTURES[2], **options))
    assert type(error) is kind
    assert error.code == code
    with pytest.raises(kind, match=message):
        raise error


def test_the_models_own_layer_and_method_may_be_named(pipeline: Pipeline) -> None:
    named = result(pipeline, ask(PICTURES[0], layer=(LAYER,), method="gradcam"))
    assert (named.layers, named.method) == ((LAYER,), "gradcam")
    assert_same_answer(named, result(pipeline, ask(PICTURES[0])))


# ----------------------------------------------------------------------------- limits


def test_a_layer_named_twice_counts_once(pipeline: Pipeline) -> None:
    twice = result(pipeline, ask(PICTURES[0], layer=("layer3", "layer3")))
    assert twice.layers == ("layer3",)
    assert_same_answer(twice, result(pipeline, ask(PICTURES[0], layer=("layer3",))))


def test_classes_of_all_pictures_of_a_message_are_limited(pipeline: Pipeline) -> None:
    limited = with_settings(pipeline, max_targets=6)
    of_three = dataclasses.replace(ask(PICTURES[0], targets=(1, 2)), images_in_request=3)
    assert len(result(limited, of_three).explanations) == 2
    error = refusal(limited, dataclasses.replace(of_three, images_in_request=4))
    assert (type(error), error.code, error.status) == (TooMany, "too_many_targets", 422)
    assert "at most 6" in str(error)
    assert "8" in str(error)


def test_passes_of_a_message_are_limited(pipeline: Pipeline) -> None:
    limited = with_settings(pipeline, max_passes=12)
    asked = ask(PICTURES[0], smooth=True, layer=(LAYER, "layer3"))
    assert result(limited, asked).layers == (LAYER, "layer3")
    error = refusal(limited, dataclasses.replace(asked, images_in_request=2))
    assert (type(error), error.code, error.status) == (TooMany, "too_many_passes", 422)
    assert "2 pictures × 2 layers × 6 versions of a picture are 24 forward passes, the limit of" in str(error)
    # Nothing to explain takes one pass, whatever is asked of the explanation.
    assert result(limited, dataclasses.replace(ask(PICTURES[0], smooth=True, explain=0), images_in_request=12))


def test_overlays_of_a_message_are_limited(pipeline: Pipeline) -> None:
    width, height = PICTURES[2].size
    limited = with_settings(pipeline, max_overlay_pixels=2 * width * height)
    two = ask(PICTURES[2], overlay="png", targets=(1, 2))
    assert all(explanation.overlay for explanation in result(limited, two).explanations)
    for three in (ask(PICTURES[2], overlay="png", explain=3), dataclasses.replace(two, images_in_request=2)):
        error = refusal(limited, three)
        assert (type(error), error.code, error.status) == (TooLarge, "overlay_too_large", 413)
        assert "2,000 pixels" in str(error)
        assert "the limit is 4,000" in str(error)
    # Only the first is drawn where the answer is the overlay.
    assert result(limited, ask(PICTURES[2], "png", explain=3)).explanations[0].overlay
    assert result(limited, ask(PICTURES[2], explain=3))


def test_more_pictures_than_fit_in_a_pass_take_several(pipeline: Pipeline, model: nn.Module) -> None:
    small = Pipeline(model, LABELS, SETTINGS, CPU, max_forward=2)
    requests = [ask(picture, explain=2) for picture in PICTURES]
    forward = small.inference(small.preprocess(requests))
    assert [leg.rows for leg in forward.legs] == [[0, 1], [2, 3], [4]]
    for ours, theirs in zip(answer(small, *requests), answer(pipeline, *requests), strict=True):
        assert_same_answer(ours, theirs)


def test_what_is_dear_is_refused_when_the_time_is_over_and_its_neighbours_are_answered(pipeline: Pipeline) -> None:
    hurried = with_settings(pipeline, max_batch_seconds=1e-9, max_replay_bytes=1)
    requests = [
        ask(PICTURES[0], method="scorecam"),
        ask(PICTURES[1]),
        ask(PICTURES[2], method="ablationcam"),
        ask(PICTURES[3], smooth=True),
        ask(PICTURES[4], explain=5),
    ]
    # Decoded in time: that has a limit of its own.
    batch = dataclasses.replace(pipeline.preprocess(requests), deadline=0.0)
    with torch.enable_grad():
        answers = hurried.results(hurried.explain(hurried.inference(batch)))
    assert_same_answer(answers[1], result(pipeline, requests[1]))
    for refused in (answers[0], *answers[2:]):
        assert isinstance(refused, TooExpensive)
        assert (refused.status, refused.code) == (422, "too_expensive")
    assert "scorecam at layer4.1.conv2 was not done" in str(answers[0])


def test_pictures_that_cannot_be_decoded_in_time_are_refused(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    hurried = with_settings(pipeline, max_batch_seconds=2)
    clock = iter([0.0, 0.5, 0.9, 1.1])
    monkeypatch.setattr("gradcam.pipeline.time.monotonic", lambda: next(clock))
    several = [dataclasses.replace(ask(picture), images_in_request=2) for picture in PICTURES[:2]]
    batch = hurried.preprocess([*several, ask(PICTURES[2])])
    assert batch.deadline == 2
    # The single one goes first, then the smaller of the two.
    assert [type(item).__name__ for item in batch.items] == ["TooExpensive", "Item", "Item"]


def test_layers_are_cut_while_there_is_time(model: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = Pipeline(model, LABELS, dataclasses.replace(SETTINGS, max_batch_seconds=2), CPU)
    clock = iter([0.0, 0.1, 0.2, 1.1])  # start, the row, its two layers
    monkeypatch.setattr("gradcam.pipeline.time.monotonic", lambda: next(clock))

    batch = fresh.preprocess([ask(PICTURES[2], layer=("layer3", "layer2"))])

    (late,) = batch.items
    assert isinstance(late, TooExpensive)
    assert list(fresh.splits) == [LAYER, "layer3"]
    monkeypatch.undo()
    assert result(fresh, ask(PICTURES[2], layer=("layer3", "layer2"))).layers == ("layer3", "layer2")


def test_a_layer_that_cannot_be_cut_is_tried_once(model: nn.Module) -> None:
    fresh = Pipeline(model, LABELS, SETTINGS, CPU)
    passes: list[int] = []
    hook = model.register_forward_pre_hook(lambda module, inputs: passes.append(len(inputs[0])))
    first = refusal(fresh, ask(PICTURES[2], layer=("fc",)))
    tried = len(passes)
    second = refusal(fresh, ask(PICTURES[2], layer=("fc",)))
    hook.remove()
    assert (first.code, str(first)) == (second.code, str(second))
    assert tried == len(passes) > 0


# ----------------------------------------------------------------------------- maps worked out by hand


class Colours(nn.Module):
    """Classes dark, blue, green and red: how little of any colour the picture has, and how much of one.

    The activations are the colours on a grid of 8 × 8 pixels a cell, and a class's gradient is constant, so the map of
    a colour is that channel of the grid over its maximum.
    """

    def __init__(self, scale: float = 9) -> None:
        super().__init__()
        self.grid = nn.AvgPool2d(8)
        self.classes = nn.Linear(3, 4, bias=False)
        self.classes.weight.data = scale * torch.tensor([[-1.0, -1, -1], [0, 0, 1], [0, 1, 0], [1, 0, 0]])

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classes(self.grid(x).mean((2, 3)))
        return logits


COLOURS = settings(
    architecture="colours",
    num_classes=4,
    input_size=(16, 24),
    mean=(0, 0, 0),
    std=(1, 1, 1),
    layer="grid",
    engine="eager",
    resize_size=32,
)


def colours(scale: float = 9, **changes: Any) -> Pipeline:
    model = Colours(scale).eval().requires_grad_(False)
    labels = Labels(("dark", "blue", "green", "red"))
    return Pipeline(model, labels, dataclasses.replace(COLOURS, **changes), CPU)


def painted(
    width: int, height: int, *rectangles: tuple[tuple[int, int, int, int], tuple[int, int, int]]
) -> Image.Image:
    picture = Image.new("RGB", (width, height))
    for box, colour in rectangles:
        picture.paste(colour, box)
    return picture


# As large as the input, so nothing is resized: cells of 8 × 8 pixels, two rows of three.
CELLS = painted(24, 16, ((8, 0, 16, 8), (200, 0, 0)), ((16, 8, 24, 16), (50, 0, 0)), ((0, 8, 8, 16), (0, 120, 0)))


def test_a_map_worked_out_by_hand() -> None:
    answered = result(colours(), ask(CELLS, explain=2))
    red, green = answered.explanations
    assert (red.prediction.label, green.prediction.label) == ("red", "green")
    np.testing.assert_allclose(red.heatmap, [[0, 1, 0], [0, 0, 0.25]], atol=1e-6)
    np.testing.assert_allclose(green.heatmap, [[0, 0, 0], [1, 0, 0]], atol=1e-6)
    assert (red.peak, green.peak) == ((12, 4), (4, 12))
    logits = np.array([250, 120, 0, -370]) / 255 * 9 / 6
    probabilities = np.exp(logits) / np.exp(logits).sum()
    np.testing.assert_allclose([p.probability for p in answered.predictions], sorted(probabilities)[::-1], rtol=1e-5)


@pytest.mark.parametrize("label", ["blue", "dark"])
def test_where_nothing_speaks_for_a_class_there_is_no_evidence(label: str) -> None:
    (explanation,) = result(colours(), ask(CELLS, targets=(label,), overlay="png")).explanations
    assert explanation.heatmap.tolist() == [[0, 0, 0], [0, 0, 0]]
    assert explanation.peak is None
    assert explanation.overlay is not None
    decoded = cv2.imdecode(np.frombuffer(explanation.overlay, np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(decoded, oracles.overlay(np.asarray(CELLS), np.zeros((2, 3), np.float32)))


def test_a_black_picture_gives_no_evidence_for_the_class_that_is_predicted() -> None:
    (explanation,) = result(colours(), ask(Image.new("RGB", (24, 16)))).explanations
    assert not explanation.heatmap.any()
    assert explanation.peak is None


def test_the_peak_is_in_pixels_of_the_picture_that_was_squashed() -> None:
    # 10 × 20 times the input: the red cell is the middle one of the upper row.
    picture = painted(240, 320, ((80, 0, 160, 160), (255, 0, 0)))
    answered = result(colours(), ask(picture, targets=("red",)))
    assert answered.region == Region(0, 0, 240, 320)
    assert answered.explanations[0].peak == (120, 80)


def test_the_peak_is_in_pixels_of_the_picture_that_was_cropped() -> None:
    # 320 × 160 becomes 64 × 32, of which 24 × 16 in the middle are seen: 120 × 80 pixels of the picture, from
    # (100, 40) on, in cells of 40 × 40. The green outside of it is not seen.
    picture = painted(
        320, 160, ((0, 0, 320, 20), (0, 255, 0)), ((0, 0, 60, 160), (0, 255, 0)), ((180, 80, 220, 120), (255, 0, 0))
    )
    answered = result(colours(transform="crop"), ask(picture, targets=("red", "green")))
    red, green = answered.explanations
    assert answered.region == Region(100, 40, 220, 120)
    assert (answered.width, answered.height) == (320, 160)
    assert red.peak == (200, 100)
    assert red.heatmap[1, 2] == 1
    assert red.heatmap[0].max() < 0.1
    assert green.peak is None


@pytest.mark.parametrize("scale", [1e-9, 9, 1e4])
def test_classes_are_ranked_where_their_probabilities_are_equal_in_float32(scale: float) -> None:
    # Nearly the same for all classes with the first scale, and 0 for all but one with the last.
    answered = result(colours(scale), ask(CELLS, explain=3))
    assert [p.label for p in answered.predictions] == ["red", "green", "blue", "dark"]
    assert [e.prediction.label for e in answered.explanations] == ["red", "green", "blue"]


def test_topk_is_at_most_the_number_of_classes() -> None:
    assert len(result(colours(), ask(CELLS)).predictions) == 4


# ----------------------------------------------------------------------------- several passes, lower precision


def test_rows_of_one_batch_take_different_layers_methods_and_smoothing(pipeline: Pipeline) -> None:
    requests = [
        ask(PICTURES[0]),
        ask(PICTURES[1], layer=("layer3",), method="layercam", explain=2),
        ask(PICTURES[2], layer=(LAYER, "layer3"), targets=(3,)),
        ask(PICTURES[0], smooth=True, targets=(1, 2)),
        ask(PICTURES[1], explain=0, smooth=True, layer=("layer3",)),
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
    single = [result(pipeline, ask(PICTURES[0], layer=(layer,), targets=(3,))) for layer in ("layer4", "layer3")]
    fused = result(pipeline, ask(PICTURES[0], layer=("layer4", "layer3"), targets=(3,)))
    coarse, fine = (answered.explanations[0].heatmap for answered in single)
    height, width = fine.shape
    resized = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    mean = (resized + fine) / 2
    np.testing.assert_allclose(fused.explanations[0].heatmap, mean / mean.max(), atol=1e-5)


def test_smoothing_is_the_mean_over_flipped_and_scaled_inputs(pipeline: Pipeline, model: nn.Module) -> None:
    inputs = oracles.model_input(PICTURES[0], input_size=SETTINGS.input_size)
    maps = []
    for factor in (0.9, 1.0, 1.1):
        straight = oracles.tutorial(model, LAYER, inputs * factor, [3]).heatmaps[0]
        mirrored = oracles.tutorial(model, LAYER, (inputs * factor).flip(3), [3]).heatmaps[0].flip(1)
        maps += [straight, mirrored]
    mean = torch.stack(maps).nan_to_num().mean(dim=0)
    smooth = result(pipeline, ask(PICTURES[0], smooth=True, targets=(3,)))
    np.testing.assert_allclose(smooth.explanations[0].heatmap, mean / mean.max(), atol=1e-4)


class Loud(nn.Module):
    """Its activations of a white picture leave the range of float16."""

    def __init__(self) -> None:
        super().__init__()
        self.grid = nn.Conv2d(3, 4, 8, stride=8, bias=False)
        self.classes = nn.Linear(4, 4, bias=False)
        self.grid.weight.data.fill_(1e4)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classes(self.grid(x).mean((2, 3)))
        return logits


def test_a_picture_too_much_for_float16_fails_alone() -> None:
    settings = dataclasses.replace(COLOURS, precision="float16")
    model = Loud().eval().requires_grad_(False)
    half = Pipeline(model, Labels(("dark", "blue", "green", "red")), settings, CPU)
    white, black = (ask(Image.new("RGB", (64, 64), color)) for color in ("white", "black"))
    failed, answered = answer(half, white, black)
    assert isinstance(failed, NumericalOverflow)
    assert (failed.status, failed.code) == (422, "numerical_overflow")
    assert isinstance(answered, Result)
