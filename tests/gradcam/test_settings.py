"""The `gradcam:` block: round trip, defaults, and every invalid key and value."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import yaml

from gradcam.explain.cam import GRADIENT_METHODS
from gradcam.settings import Settings, SettingsError

SETTINGS = Settings(
    architecture="resnet18",
    num_classes=7,
    weights="torchvision ResNet18_Weights.IMAGENET1K_V1, × as published",
    weights_sha256="0123456789" * 6 + "0123",
    input_size=(224, 192),
    mean=(0.485, 0.456, 0.406),
    std=(127 / 255, 0.224, 1e-3),
    layer="layer4.1.conv2",
    transform="crop",
    resize_size=232,
    interpolation="bicubic",
    max_image_bytes=1,
    max_image_pixels=10**12,
    max_targets=3,
    max_replay_bytes=4,
)
BLOCK = SETTINGS.to_mapping()
REQUIRED = ["architecture", "num_classes", "weights", "weights_sha256", "input_size", "mean", "std", "layer"]


def rejected(block: Any) -> str:
    with pytest.raises(SettingsError) as raised:
        Settings.from_mapping(block)
    return str(raised.value)


def test_round_trip_through_yaml() -> None:
    text = yaml.safe_dump({"minWorkers": 1, "gradcam": BLOCK}, sort_keys=False)
    assert Settings.from_mapping(yaml.safe_load(text)["gradcam"]) == SETTINGS


def test_the_mapping_holds_every_setting_in_yaml_types() -> None:
    assert list(BLOCK) == [field.name for field in dataclasses.fields(Settings)]
    assert BLOCK["input_size"] == [224, 192]
    assert BLOCK["mean"] == [0.485, 0.456, 0.406]


def test_defaults() -> None:
    settings = Settings.from_mapping({key: BLOCK[key] for key in REQUIRED})
    assert (settings.transform, settings.resize_size, settings.interpolation) == ("squash", 256, "bilinear")
    assert (settings.method, settings.max_targets, settings.max_replay_bytes) == ("gradcam", 100, 268_435_456)
    assert (settings.max_image_bytes, settings.max_image_pixels) == (33_554_432, 64_000_000)


def test_integers_are_accepted_as_floats() -> None:
    settings = Settings.from_mapping({**BLOCK, "mean": [0, 0, 0], "std": [1, 1, 1]})
    assert settings.std == (1.0, 1.0, 1.0)
    assert all(type(number) is float for number in settings.mean + settings.std)


@pytest.mark.parametrize("key", REQUIRED)
def test_a_missing_key(key: str) -> None:
    assert rejected({name: value for name, value in BLOCK.items() if name != key}) == f"gradcam: {key!r} is missing"


@pytest.mark.parametrize("block", [None, [], "resnet18", 5], ids=repr)
def test_a_block_that_is_no_mapping(block: Any) -> None:
    assert rejected(block) == f"model-config.yaml must have a block `gradcam:` of keys and values, got {block!r}"


@pytest.mark.parametrize(
    ("key", "near"),
    [("resize", "resize_size"), ("Transform", "transform"), ("max_target", "max_targets"), ("stdd", "std")],
)
def test_an_unknown_key_suggests_similar_names(key: str, near: str) -> None:
    message = rejected({**BLOCK, key: 1})
    assert message.startswith(f"gradcam: unknown setting {key!r}; did you mean {near!r}")


@pytest.mark.parametrize("key", ["qqqq", 1, True, 2.5])
def test_an_unknown_key_without_a_similar_name(key: Any) -> None:
    assert rejected({**BLOCK, key: 1}) == f"gradcam: unknown setting {key!r}"


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("architecture", 18, "must be of type str, got 18"),
        ("layer", None, "must be of type str, got None"),
        ("num_classes", "7", "must be of type int, got '7'"),
        ("num_classes", 7.0, "must be of type int, got 7.0"),
        ("num_classes", True, "must be of type int, got True"),
        ("num_classes", [7], "must be of type int, got [7]"),
        ("input_size", 224, "must be a list of 2 numbers, got 224"),
        ("input_size", [224], "must be a list of 2 numbers, got [224]"),
        ("input_size", [224, 224, 3], "must be a list of 2 numbers, got [224, 224, 3]"),
        ("input_size", "224", "must be a list of 2 numbers, got '224'"),
        ("input_size", [224, 224.5], "must be of type int, got 224.5"),
        ("mean", "abc", "must be a list of 3 numbers, got 'abc'"),
        ("mean", [0.5, 0.5, "0.5"], "must be of type float, got '0.5'"),
        ("std", [1, 1, True], "must be of type float, got True"),
        ("transform", "stretch", "must be one of squash, crop; got 'stretch'"),
        ("transform", None, "must be one of squash, crop; got None"),
        ("transform", ["squash"], "must be one of squash, crop; got ['squash']"),
        ("interpolation", "nearest", "must be one of bilinear, bicubic; got 'nearest'"),
        ("num_classes", 0, "must be greater than 0, got 0"),
        ("num_classes", -1, "must be greater than 0, got -1"),
        ("input_size", [224, 0], "must be greater than 0, got (224, 0)"),
        ("std", [0.2, 0, 0.2], "must be greater than 0, got (0.2, 0.0, 0.2)"),
        ("max_image_pixels", 0, "must be greater than 0, got 0"),
        ("max_targets", -5, "must be greater than 0, got -5"),
        ("activation", "relu", "must be one of softmax, sigmoid; got 'relu'"),
        (
            "class_scores",
            "single_logit",
            "must be 'logits' unless 'num_classes' is 2 and 'activation' is softmax; got 7 and softmax",
        ),
        ("methods", "gradcam", "must be a list, got 'gradcam'"),
        ("methods", ["gradcam", 5], "must be of type str, got 5"),
        ("method", "scorecam", f"must be one of 'methods' ({', '.join(GRADIENT_METHODS)}), got 'scorecam'"),
        ("resize_size", 223, "must be at least the larger side of 'input_size' (224, 192), got 223"),
    ],
    ids=str,
)
def test_an_invalid_value_is_named(key: str, value: Any, message: str) -> None:
    assert rejected({**BLOCK, key: value}) == f"gradcam: {key!r} {message}"


@pytest.mark.parametrize("key", ["mean", "std"])
@pytest.mark.parametrize("value", [math.nan, math.inf], ids=repr)
def test_a_constant_that_is_not_finite(key: str, value: float) -> None:
    # YAML has .nan and .inf; with them every probability would be NaN.
    assert f"{key!r}" in rejected({**BLOCK, key: [0.5, 0.5, value]})


def test_a_mean_may_be_zero_or_less() -> None:
    assert Settings.from_mapping({**BLOCK, "mean": [0, -0.5, 0.5]}).mean == (0.0, -0.5, 0.5)


def test_resize_size_is_checked_for_crop_only() -> None:
    assert Settings.from_mapping({**BLOCK, "transform": "squash", "resize_size": 1}).resize_size == 1
    assert Settings.from_mapping({**BLOCK, "resize_size": 224}).resize_size == 224


def test_a_single_logit_makes_two_classes() -> None:
    binary = Settings.from_mapping({**BLOCK, "num_classes": 2, "class_scores": "single_logit"})
    assert (binary.num_classes, binary.num_logits) == (2, 1)
    assert Settings.from_mapping(BLOCK).num_logits == 7
    assert "got 2 and sigmoid" in rejected({**binary.to_mapping(), "activation": "sigmoid"})


@pytest.mark.parametrize(("key", "value"), [("method", "gradcan"), ("methods", ["gradcam", "gradcan"])])
def test_an_unknown_method_suggests_similar_names(key: str, value: Any) -> None:
    message = rejected({**BLOCK, key: value})
    assert message.startswith(f"gradcam: {key!r}: Unknown method 'gradcan'; did you mean 'gradcam'")


def test_methods_that_need_passes_for_each_channel_must_be_allowed_by_name() -> None:
    assert Settings.from_mapping(BLOCK).methods == tuple(GRADIENT_METHODS)
    allowed = Settings.from_mapping({**BLOCK, "method": "scorecam", "methods": ["gradcam", "scorecam"]})
    assert (allowed.method, allowed.methods) == ("scorecam", ("gradcam", "scorecam"))


def test_methods_must_have_the_default() -> None:
    assert rejected({**BLOCK, "methods": []}) == "gradcam: 'method' must be one of 'methods' (), got 'gradcam'"


def test_settings_are_immutable() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        SETTINGS.num_classes = 8  # type: ignore[misc]
