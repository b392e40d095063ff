"""Request options, through every channel: headers, form fields, and JSON."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.support import oracles
from tests.support.encoding import decoded, encoded
from tests.support.served import (
    HEATMAP_TOLERANCE,
    Call,
    Model,
    check,
    check_class,
    check_overlay,
    check_predictions,
    error,
    from_data_url,
    parsed,
    sample,
)

PIXELS = sample(11)
IMAGE = encoded(PIXELS)
FULL = [0, 0, 310, 203]


def call(channel: str, options: dict[str, str]) -> Call:
    """Return the same request, sent through a channel."""
    return {
        "headers": Call(IMAGE, {f"Gradcam-{name}": value for name, value in options.items()}),
        "odd headers": Call(IMAGE, {f"gRAdcAM-{name.upper()}": value for name, value in options.items()}),
        "form": Call(IMAGE, form=options),
        "form body": Call(IMAGE, form=options, field_name="body"),
        "form image": Call(IMAGE, form=options, field_name="image"),
        "json": Call(json={"image": base64.b64encode(IMAGE).decode(), **options}),
        "data url": Call(json={"image": f"data:image/png;base64,{base64.b64encode(IMAGE).decode()}", **options}),
        "explanations": Call(IMAGE, form=options, endpoint="explanations"),
    }[channel]


CHANNELS = ["headers", "odd headers", "form", "form body", "form image", "json", "data url", "explanations"]


# ----------------------------------------------------------------------------- channels


@pytest.mark.parametrize("channel", CHANNELS)
def test_every_channel_accepts_options(channel: str, squash: Model) -> None:
    options = {"targets": "281, Egyptian cat,7", "topk": "3", "overlay": "png", "method": "gradcam"}

    answer = parsed(squash.post(call(channel, options)))

    check(answer, squash, PIXELS, [281, 285, 7], topk=3)
    expected = squash.expected(PIXELS, [281, 285, 7])
    for entry in answer["explanations"]:
        drawn = decoded(from_data_url(entry["overlay"], "png"))
        check_overlay(drawn, PIXELS, expected.heatmaps[entry["index"]], FULL)


@pytest.mark.parametrize("channel", CHANNELS)
def test_default_explains_the_predicted_class(channel: str, squash: Model) -> None:
    answer = parsed(squash.post(call(channel, {})))

    check(answer, squash, PIXELS, 1, topk=5)
    assert "overlay" not in answer["explanations"][0]


def test_json_options_may_be_numbers_and_lists(squash: Model) -> None:
    image = base64.b64encode(IMAGE).decode()
    body: dict[str, Any] = {"image": image, "targets": [3, "tabby", "7"], "topk": 2, "alpha": 0.25, "overlay": "png"}

    answer = parsed(squash.post(Call(json=body)))

    check(answer, squash, PIXELS, [3, 281, 7], topk=2)


def test_json_image_may_be_wrapped_in_b64(squash: Model) -> None:
    image = {"b64": base64.b64encode(IMAGE).decode()}

    check(parsed(squash.post(Call(json={"image": image, "targets": 3}))), squash, PIXELS, [3])


# ----------------------------------------------------------------------------- targets


@pytest.mark.parametrize(
    ("targets", "indices"),
    [
        ("0", [0]),
        ("999", [999]),
        ("toilet tissue", [999]),
        ("TABBY", [281]),
        ("5,4,5", [5, 4, 5]),
        ("6,66,166,266,366,466,566,666,766,866,966", [6, 66, 166, 266, 366, 466, 566, 666, 766, 866, 966]),
    ],
)
def test_targets_by_index_and_label(targets: str, indices: list[int], squash: Model) -> None:
    answer = squash.predict(IMAGE, targets=targets)

    check(answer, squash, PIXELS, indices)


def test_maps_of_different_classes_differ(squash: Model) -> None:
    """Negative control of the comparisons above: the network's maps depend on the class."""
    answer = squash.predict(IMAGE, targets="281,285,7")

    first, second, third = (np.asarray(entry["heatmap"]) for entry in answer["explanations"])
    assert np.abs(first - second).max() > 0.05
    assert np.abs(first - third).max() > 0.05


def test_label_with_a_comma_is_quoted(crop: Model) -> None:
    check(crop.predict(IMAGE, targets='"cat, Egyptian",3'), crop, PIXELS, [285, 3])
    image = base64.b64encode(IMAGE).decode()
    answer = parsed(crop.post(Call(json={"image": image, "targets": ["cat, Egyptian"]})))
    check(answer, crop, PIXELS, [285])


@pytest.mark.parametrize("index", [9, 25])
def test_class_without_evidence_has_a_zero_map(index: int, crop: Model) -> None:
    assert crop.expected(PIXELS, [index]).heatmaps[index].max() == 0

    answer = crop.predict(IMAGE, targets=f"{index},281", overlay="png")

    check(answer, crop, PIXELS, [index, 281])
    without, other = answer["explanations"]
    assert without["evidence"] is False
    assert without["peak"] is None
    assert without["heatmap"] == [[0.0] * 7] * 7
    assert other["evidence"] is True
    for entry in answer["explanations"]:
        heatmap = crop.expected(PIXELS, [index, 281]).heatmaps[entry["index"]]
        check_overlay(decoded(from_data_url(entry["overlay"], "png")), PIXELS, heatmap, [66, 13, 244, 190])


def test_hundred_targets_are_explained(squash: Model) -> None:
    answer = squash.predict(IMAGE, targets=",".join(map(str, range(99, -1, -1))))

    assert [entry["index"] for entry in answer["explanations"]] == list(range(99, -1, -1))
    expected = squash.expected(PIXELS, [50, 0])
    for index, heatmap in expected.heatmaps.items():
        entry = answer["explanations"][99 - index]
        check_class(entry, squash, expected)
        assert np.abs(np.asarray(entry["heatmap"]) - heatmap).max() <= HEATMAP_TOLERANCE


# ----------------------------------------------------------------------------- topk and explain


@pytest.mark.parametrize("topk", [1, 7, 1000])
def test_topk_sets_the_number_of_predictions(topk: int, squash: Model) -> None:
    answer = squash.predict(IMAGE, topk=topk)

    check(answer, squash, PIXELS, topk=topk)


def test_probabilities_sum_to_one(squash: Model) -> None:
    answer = squash.predict(IMAGE, topk=1000)

    assert abs(sum(entry["probability"] for entry in answer["predictions"]) - 1) < 1e-4


def test_explain_selects_the_most_probable_classes(squash: Model) -> None:
    check(squash.predict(IMAGE, explain=3), squash, PIXELS, 3)


def test_explain_may_exceed_topk(squash: Model) -> None:
    answer = squash.predict(IMAGE, explain=8, topk=2)

    explained = [entry["index"] for entry in answer["explanations"]]
    expected = squash.expected(PIXELS, explained)
    check_predictions(answer["predictions"], squash, expected, 2)
    check_predictions(answer["explanations"], squash, expected, 8)


@pytest.mark.parametrize("endpoint", ["predictions", "explanations"])
def test_explain_zero_explains_nothing(endpoint: str, squash: Model) -> None:
    answer = parsed(squash.post(Call(IMAGE, {"Gradcam-Explain": "0"}, endpoint=endpoint)))

    check(answer, squash, PIXELS, 0)
    assert answer["explanations"] == []


def test_heatmap_none_omits_the_map(squash: Model) -> None:
    answer = squash.predict(IMAGE, heatmap="none", targets="281")

    (entry,) = answer["explanations"]
    expected = squash.expected(PIXELS, [281])
    check_class(entry, squash, expected)
    row, column = np.unravel_index(expected.heatmaps[281].argmax(), (7, 7))
    x, y = int((column + 0.5) / 7 * 310), int((row + 0.5) / 7 * 203)
    assert entry == {
        "index": 281,
        "label": "tabby",
        "probability": entry["probability"],
        "evidence": True,
        "peak": [x, y],
        "strength": entry["strength"],
    }


def test_answer_has_exactly_these_members(squash: Model) -> None:
    answer = squash.predict(IMAGE, overlay="png")

    assert list(answer) == ["predictions", "explanations", "method", "layer", "image", "model"]
    assert list(answer["predictions"][0]) == ["index", "label", "probability"]
    (entry,) = answer["explanations"]
    assert list(entry) == ["index", "label", "probability", "evidence", "heatmap", "peak", "strength", "overlay"]
    assert list(answer["image"]) == ["width", "height", "region"]


def test_default_method_and_layer_may_be_named(squash: Model) -> None:
    check(squash.predict(IMAGE, method="gradcam", layer="layer4.1.conv2"), squash, PIXELS)


def test_layer_selects_the_map(squash: Model) -> None:
    answer = squash.predict(IMAGE, layer="layer3.0.conv1", targets="281")

    image = oracles.model_input(Image.fromarray(PIXELS))
    (heatmap,) = oracles.autograd_at(squash.network, "layer3.0.conv1", image, [281]).heatmaps.numpy()
    (entry,) = answer["explanations"]
    assert answer["layer"] == "layer3.0.conv1"
    assert np.asarray(entry["heatmap"]).shape == (14, 14)
    assert np.abs(np.asarray(entry["heatmap"]) - heatmap).max() <= HEATMAP_TOLERANCE
    check(squash.predict(IMAGE), squash, PIXELS)


# ----------------------------------------------------------------------------- overlays


def test_overlay_as_jpeg(squash: Model) -> None:
    answer = squash.predict(IMAGE, targets="281", overlay="jpeg")

    drawn = decoded(from_data_url(answer["explanations"][0]["overlay"], "jpeg"))
    expected = oracles.overlay(PIXELS, squash.expected(PIXELS, [281]).heatmaps[281])[:, :, ::-1]
    assert np.abs(drawn.astype(int) - expected).mean() < 6  # JPEG smooths the noise of the image
    assert np.abs(drawn.astype(int) - PIXELS).mean() > 20


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("image/png", "image/png"),
        ("image/jpeg", "image/jpeg"),
        ("image/*", "image/png"),
        ("text/html, IMAGE/PNG;q=0.9", None),
        ("application/json;q=0.5, image/png", "image/png"),
        ("image/png;q=0.5, application/json", None),
        ("*/*", None),
    ],
)
def test_accept_selects_the_content_type(accept: str, content_type: str | None, squash: Model) -> None:
    response = squash.post(Call(IMAGE, {"Accept": accept, "Gradcam-Targets": "281,3"}))

    if content_type is None:
        check(parsed(response), squash, PIXELS, [281, 3])
        return
    assert response.status_code == 200
    assert response.headers["content-type"] == content_type
    magic = {"image/png": b"\x89PNG", "image/jpeg": b"\xff\xd8\xff"}[content_type]
    assert response.content.startswith(magic)
    drawn = decoded(response.content)
    heatmap = squash.expected(PIXELS, [281]).heatmaps[281]
    if content_type == "image/png":
        check_overlay(drawn, PIXELS, heatmap, FULL)
    else:
        assert np.abs(drawn.astype(int) - oracles.overlay(PIXELS, heatmap)[:, :, ::-1]).mean() < 6


def test_accept_with_a_crop_model(crop: Model) -> None:
    response = crop.post(Call(IMAGE, {"Accept": "image/png", "Gradcam-Targets": "281"}))

    heatmap = crop.expected(PIXELS, [281]).heatmaps[281]
    check_overlay(decoded(response.content), PIXELS, heatmap, [66, 13, 244, 190])


def test_alpha_zero_returns_the_image(squash: Model) -> None:
    response = squash.post(Call(IMAGE, {"Accept": "image/png", "Gradcam-Alpha": "0"}))

    assert (decoded(response.content) == PIXELS).all()


def test_alpha_one_returns_the_colormap_only(squash: Model) -> None:
    form = {"alpha": "1", "colormap": "viridis", "targets": "281"}

    response = squash.post(Call(IMAGE, {"Accept": "image/png"}, form))

    drawn = decoded(response.content)
    scale = cv2.applyColorMap(np.arange(256, dtype=np.uint8)[None], cv2.COLORMAP_VIRIDIS)[0, :, ::-1]
    palette = {tuple(color) for color in scale.tolist()}
    assert {tuple(color) for color in drawn.reshape(-1, 3).tolist()} <= palette
    resized = cv2.resize(squash.expected(PIXELS, [281]).heatmaps[281], (310, 203))
    assert np.abs(drawn.astype(int) - scale[(255 * resized).astype(np.uint8)]).max() <= 6


# ----------------------------------------------------------------------------- contrast, boxes, styles, provenance


@pytest.mark.parametrize("protocol", ["header", "form", "json", "v1", "v2"])
def test_contrast_and_boxes_in_every_protocol(protocol: str, squash: Model) -> None:
    options = {"targets": "281", "versus": "3", "boxes": "0.5"}
    image = base64.b64encode(IMAGE).decode()
    match protocol:
        case "header":
            (entry,) = squash.predict(IMAGE, **options)["explanations"]
        case "form":
            (entry,) = parsed(squash.post(Call(IMAGE, form=options)))["explanations"]
        case "json":
            (entry,) = parsed(squash.post(Call(json={"image": image, **options})))["explanations"]
        case "v1":
            body = {"instances": [{"image": image}], "parameters": options}
            (answer,) = parsed(squash.post_json("/v1/models/squash:predict", body))["predictions"]
            (entry,) = answer["explanations"]
        case _:
            tensor = {"name": "image", "shape": [1], "datatype": "BYTES", "data": [image]}
            answer = parsed(squash.post_json("/v2/models/squash/infer", {"inputs": [tensor], "parameters": options}))
            tensors = {output["name"]: output["data"] for output in answer["outputs"]}
            assert answer["parameters"]["weights"] == squash.predict(IMAGE)["model"]["weights"]
            heatmap = np.reshape(tensors["heatmap"], (7, 7))
            entry = {"heatmap": heatmap, "strength": tensors["strength"][0], "boxes": json.loads(tensors["boxes"][0])}
            assert tensors["versus"] == [3]
    prepared = oracles.model_input(Image.fromarray(PIXELS))
    observed = oracles.tutorial(squash.network, oracles.target_layer(squash.network), prepared, [281], versus=3)
    raw = observed.weighted_sum[0].relu().numpy()
    assert np.abs(np.asarray(entry["heatmap"]) * entry["strength"] - raw).max() <= HEATMAP_TOLERANCE * raw.max()
    resized = cv2.resize(raw / raw.max(), (310, 203))
    assert resized[resized >= 0.5 * resized.max()].size == pytest.approx(
        sum(box["area"] for box in entry["boxes"]), rel=0.01
    )
    assert [box["area"] for box in entry["boxes"]] == sorted((box["area"] for box in entry["boxes"]), reverse=True)
    if "versus" in entry:
        assert (entry["versus"]["index"], entry["versus"]["label"]) == (3, squash.labels[3])


def test_gray_style_is_the_map_in_levels_with_its_origin(squash: Model) -> None:
    headers = {"Accept": "image/png", "Gradcam-Targets": "281", "Gradcam-Style": "gray"}
    response = squash.post(Call(IMAGE, headers))

    with Image.open(io.BytesIO(response.content)) as image:
        image.load()
        assert (image.mode, image.size) == ("L", (310, 203))
        levels = 255 * cv2.resize(squash.expected(PIXELS, [281]).heatmaps[281], (310, 203))
        assert np.abs(np.asarray(image) - levels).max() <= 1.1
        model = squash.predict(IMAGE)["model"]
        stated = {key: image.info[key] for key in ("Model", "Version", "Weights", "Index", "Label", "Method", "Layer")}
    assert stated == {
        "Model": "squash",
        "Version": model["version"],
        "Weights": model["weights"],
        "Index": "281",
        "Label": "tabby",
        "Method": "gradcam",
        "Layer": "layer4.1.conv2",
    }


def test_caption_adds_rows_below_the_unchanged_overlay(squash: Model) -> None:
    headers = {"Accept": "image/png", "Gradcam-Targets": "281"}
    plain = decoded(squash.post(Call(IMAGE, headers)).content)
    captioned = decoded(squash.post(Call(IMAGE, {**headers, "Gradcam-Caption": "true"})).content)

    assert captioned.shape[0] > 203
    assert captioned.shape[1] == 310
    assert (captioned[:203] == plain).all()


def test_jpeg_comment_states_that_counterfactual_evidence_is_against_the_class(squash: Model) -> None:
    headers = {"Accept": "image/jpeg", "Gradcam-Targets": "281", "Gradcam-Method": "counterfactual"}
    with Image.open(io.BytesIO(squash.post(Call(IMAGE, headers)).content)) as image:
        comment = json.loads(image.info["comment"])
    assert (comment["Label"], comment["Evidence"]) == ("tabby", "against the class")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"targets": "281", "versus": "tabby"}, "versus must differ from each explained class, got 281 ('tabby')"),
        ({"versus": "1", "method": "finercam"}, "finercam already contrasts the class with similar ones"),
        ({"boxes": "0"}, "boxes must be greater than 0 and at most 1, got '0'"),
        ({"style": "mask"}, "style must be one of blend, heatmap, gray, outline; got 'mask'"),
    ],
)
def test_invalid_options_of_maps_are_rejected(options: dict[str, str], reason: str, squash: Model) -> None:
    code, message = error(squash.post(Call(IMAGE, form=options)), 400)
    assert code == "invalid_option"
    assert reason in message


def test_unknown_label_suggests_labels_that_contain_it(squash: Model) -> None:
    _, message = error(squash.post(Call(IMAGE, form={"targets": "cat"})), 422)
    assert "did you mean 'tiger cat' or 'Persian cat' or 'Siamese cat' or 'Egyptian cat'" in message
