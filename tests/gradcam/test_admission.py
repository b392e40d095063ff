"""Checks of options against the model, and limits of one request."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from gradcam.admission import Admission
from gradcam.batch import SMOOTHING, UNCHANGED, AdmittedRequest
from gradcam.errors import (
    InvalidOption,
    RequestError,
    TooLarge,
    TooMany,
    UnknownName,
)
from gradcam.explain import cam
from gradcam.explain.explainer import channel_passes
from gradcam.message import Request, Result
from gradcam.network.labels import Labels
from gradcam.options import parse
from gradcam.pipeline import Pipeline
from tests.support.pipelines import (
    IMAGES,
    LABELS,
    LAYER,
    SETTINGS,
    answer,
    ask,
    rejection,
    result,
    with_settings,
)


def test_defaults_of_the_model_are_filled_in() -> None:
    admitted = Admission(SETTINGS, LABELS).admit(ask(IMAGES[0]))
    assert admitted == AdmittedRequest(ask(IMAGES[0], explain=1), None, "gradcam", (LAYER,), UNCHANGED)
    chosen = ask(IMAGES[0], targets=("dog", 9), method="layercam", layer=("layer3", LAYER, "layer3"), smooth=True)
    assert Admission(SETTINGS, LABELS).admit(chosen) == AdmittedRequest(
        chosen, (2, 9), "layercam", ("layer3", LAYER), SMOOTHING
    )


@pytest.mark.parametrize("text", ["cat, Egyptian", "CAT, egyptian", " cat, Egyptian "])
def test_targets_that_are_together_a_label_are_one_class(text: str) -> None:
    labels = Labels(("cat", "cat, Egyptian", "Egyptian", *LABELS.names[3:]))
    admitted = Admission(SETTINGS, labels).admit(Request(b"", parse([{"targets": text}])))
    assert admitted.targets == (1,)
    assert admitted.request.options.explained_classes == 1
    assert Admission(SETTINGS, labels).admit(Request(b"", parse([{"targets": "cat,Egyptian"}]))).targets == (0, 2)
    in_a_list = Request(b"", parse([{"targets": ["cat", "Egyptian"]}]))
    assert Admission(SETTINGS, labels).admit(in_a_list).targets == (0, 2)


def test_smoothing_without_explanations_takes_one_pass() -> None:
    assert Admission(SETTINGS, LABELS).admit(ask(IMAGES[0], smooth=True, explain=0)).passes == 1


def test_an_overlay_as_the_reply_needs_an_explanation() -> None:
    admission = Admission(SETTINGS, LABELS)
    with pytest.raises(InvalidOption, match="explain must be at least 1 if 'Accept' requests an image, got 0"):
        admission.admit(ask(IMAGES[0], "png", explain=0))
    assert admission.admit(ask(IMAGES[0], "png", targets=(7,))).request.accept == "png"
    assert admission.admit(ask(IMAGES[0], explain=0, overlay="png")).request.accept is None


def test_a_huge_count_is_quoted_in_part() -> None:
    with pytest.raises(InvalidOption, match=r"topk must be between 1 and 10, got 10+\.\.\.0+$") as raised:
        Admission(SETTINGS, LABELS).admit(ask(IMAGES[0], topk=10**4000))
    assert len(str(raised.value)) < 120


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
        ({"topk": 11}, InvalidOption, "invalid_option", "topk must be between 1 and 10, got 11"),
        ({"explain": 11}, InvalidOption, "invalid_option", "explain must be between 0 and 10, got 11"),
        ({"targets": (1,) * 101}, TooMany, "too_many_targets", "at most 100, summed over its images, got 101"),
        ({"colormap": "jett"}, InvalidOption, "invalid_option", "did you mean 'jet'"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_options_are_checked_against_the_model(
    pipeline: Pipeline, options: dict[str, Any], kind: type[RequestError], code: str, message: str
) -> None:
    error = rejection(pipeline, ask(IMAGES[2], **options))
    assert type(error) is kind
    assert error.code == code
    with pytest.raises(kind, match=message):
        raise error


def test_explained_classes_of_a_request_group_are_limited(pipeline: Pipeline) -> None:
    limited = with_settings(pipeline, max_targets=6)
    of_three = dataclasses.replace(ask(IMAGES[0], targets=(1, 2)), images_in_request=3)
    assert len(result(limited, of_three).explanations) == 2
    error = rejection(limited, dataclasses.replace(of_three, images_in_request=4))
    assert (type(error), error.code, error.status) == (TooMany, "too_many_targets", 422)
    assert "at most 6" in str(error)
    assert "8" in str(error)


def test_forward_passes_of_a_request_group_are_limited(pipeline: Pipeline) -> None:
    limited = with_settings(pipeline, max_passes=12)
    request = ask(IMAGES[0], smooth=True, layer=(LAYER, "layer3"))
    assert result(limited, request).layers == (LAYER, "layer3")
    error = rejection(limited, dataclasses.replace(request, images_in_request=2))
    assert (type(error), error.code, error.status) == (TooMany, "too_many_passes", 422)
    assert "at most 12, got 24 (2 images × 2 layers × 6 smoothed versions)" in str(error)
    # Without explanations one pass suffices.
    assert result(limited, dataclasses.replace(ask(IMAGES[0], smooth=True, explain=0), images_in_request=12))


@pytest.mark.parametrize("method", cam.CHANNEL_METHODS)
def test_a_method_that_is_not_allowed(pipeline: Pipeline, method: str) -> None:
    limited = with_settings(pipeline, methods=("gradcam", "layercam"))
    error = rejection(limited, ask(IMAGES[0], method=method))
    assert (type(error), error.code, error.status) == (UnknownName, "method_not_allowed", 422)
    assert str(error) == (
        f"Method {method!r} is not allowed by this model (allowed: gradcam, layercam); "
        "its operator can add it to the setting 'methods'"
    )
    unknown = rejection(limited, ask(IMAGES[0], method="scorcam"))
    assert unknown.code == "unknown_method"
    assert str(unknown).endswith("alid methods: gradcam, layercam")
    assert result(limited, ask(IMAGES[0], method="layercam")).method == "layercam"


def test_passes_for_each_channel_are_limited(pipeline: Pipeline) -> None:
    limited = with_settings(pipeline, max_passes=512)
    request = ask(IMAGES[0], method="scorecam")
    error = rejection(limited, request)
    assert (type(error), error.code, error.status) == (TooMany, "too_many_passes", 422)
    assert str(error) == (
        "Forward passes of one request must be at most 512, got 513 (1 images × 513 passes of scorecam over all "
        "channels × 1 smoothed versions); the setting 'max_passes' is the limit"
    )
    # layer1 has 64 channels; the classes of an image share the passes.
    assert result(limited, ask(IMAGES[0], method="scorecam", layer=("layer1",), targets=(1, 2)))
    both = rejection(limited, ask(IMAGES[0], method="scorecam", layer=("layer3", "layer1"), smooth=True))
    assert "got 1932 (1 images × 322 passes of scorecam over all channels × 6 smoothed versions)" in str(both)
    assert result(limited, ask(IMAGES[0], method="scorecam", explain=0))


def test_replays_of_the_head_count_as_its_share_of_the_time(pipeline: Pipeline) -> None:
    limited = with_settings(pipeline, max_passes=52)
    for share, accepted in ((0.1, False), (0.09, True)):
        limited.splits.by_layer[LAYER] = dataclasses.replace(limited.splits.default, head_share=share)
        (answered,) = answer(limited, ask(IMAGES[0], method="ablationcam"))
        assert isinstance(answered, Result) == accepted
    assert channel_passes(limited.splits.default, "ablationcam") == 47  # 512 × 0.09 = 46.08, and the image's own
    assert channel_passes(limited.splits.default, "gradcam") == 0


def test_overlay_pixels_of_a_request_group_are_limited(pipeline: Pipeline) -> None:
    width, height = IMAGES[2].size
    limited = with_settings(pipeline, max_overlay_pixels=2 * width * height)
    two = ask(IMAGES[2], overlay="png", targets=(1, 2))
    assert all(explanation.overlay for explanation in result(limited, two).explanations)
    for three in (ask(IMAGES[2], overlay="png", explain=3), dataclasses.replace(two, images_in_request=2)):
        error = rejection(limited, three)
        assert (type(error), error.code, error.status) == (TooLarge, "overlay_too_large", 413)
        assert "at most 4,000 pixels in total" in str(error)
        assert "of 2,000 pixels" in str(error)
    # A reply that is an overlay has only the first.
    assert result(limited, ask(IMAGES[2], "png", explain=3)).explanations[0].overlay
    assert result(limited, ask(IMAGES[2], explain=3))


# ----------------------------------------------------------------------------- contrast


def rejected_contrast(**options: Any) -> str:
    with pytest.raises(InvalidOption) as failure:
        Admission(SETTINGS, LABELS).admit(ask(IMAGES[0], versus="dog", **options))
    return str(failure.value)


def test_contrasted_class_is_found_by_label() -> None:
    assert Admission(SETTINGS, LABELS).admit(ask(IMAGES[0], versus="DOG", targets=(1,))).versus == 2
    with pytest.raises(UnknownName, match="Unknown label 'doge'; did you mean 'dog'"):
        Admission(SETTINGS, LABELS).admit(ask(IMAGES[0], versus="doge"))


@pytest.mark.parametrize(
    ("method", "reason"),
    [
        ("finercam", "finercam already contrasts the class with similar ones"),
        ("ablationcam", "ablationcam has no score to differentiate"),
        ("scorecam", "scorecam has no score to differentiate"),
    ],
)
def test_methods_without_contrast_are_rejected_with_the_reason(method: str, reason: str) -> None:
    message = rejected_contrast(method=method)
    assert f"got method {method!r}; {reason}; valid methods: gradcam, " in message
    assert method not in message.partition("valid methods:")[2]


def test_contrasted_class_must_not_be_explained() -> None:
    assert rejected_contrast(targets=(1, 2)) == "versus must differ from each explained class, got 2 ('dog') as both"
    assert rejected_contrast(explain=10) == "explain must be between 0 and 9, got 10"
