"""What a map means: its strength and color scale, unlikely classes, evidence against a class, and the model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.support.encoding import Pixels, decoded
from tests.support.lens_page import EXAMPLES, MODEL, Lens, difference
from tools.client import predict

CHELSEA = EXAMPLES / "chelsea.jpg"
COFFEE = EXAMPLES / "coffee.jpg"
GERMAN = {"locale": "de-DE"}
MAX_DIFFERENCE = 2

Open = Callable[..., Lens]


def significant(value: float) -> str:
    """Format a number with three significant digits, as the page does."""
    return np.format_float_positional(value, precision=3, unique=False, fractional=False, trim="-")


def legend(lens: Lens, number: int = 0) -> tuple[str, str, str]:
    """Return the lowest and highest number of a figure's color scale, and its sentence."""
    element = lens.page.locator(".view .legend").nth(number)
    lowest, highest = element.locator(".scale span").all_inner_texts()
    return lowest, highest, element.locator("p").inner_text()


def choose_method(lens: Lens, method: str) -> None:
    lens.page.select_option("#method", method)
    lens.settle()


def jet_overlay(image: Pixels, heatmap: Any, factor: float) -> Pixels:
    """Blend the colors of a map times a factor into an image, 60 to 40."""
    resized = cv2.resize(np.array(heatmap, np.float32) * np.float32(factor), image.shape[1::-1])  # (H, W)
    colors = cv2.applyColorMap((255 * resized).astype(np.uint8), cv2.COLORMAP_JET)[:, :, ::-1]  # (H, W, 3)
    blended: Pixels = (0.6 * image + 0.4 * colors).astype(np.uint8)
    return blended


# ----------------------------------------------------------------------------- strength and scale


def test_each_explained_class_has_its_strength(lens: Lens) -> None:
    lens.explain(CHELSEA)
    explanations = lens.response(CHELSEA, explain=5)["explanations"]

    shown = lens.page.locator("#classes .strength").all_inner_texts()

    assert shown == [f"strength {significant(entry['strength'])}" for entry in explanations]
    for entry in explanations:
        lens.pick(entry["label"])
        strength = significant(entry["strength"])
        assert lens.fact("strength") == strength
        assert legend(lens) == ("0", strength, f"Red: evidence for the class, of strength {strength}")


def test_the_sentence_names_the_color(lens: Lens) -> None:
    lens.explain(CHELSEA)
    for colormap, color in (("cividis", "Yellow"), ("viridis", "Yellow"), ("inferno", "Pale yellow"), ("jet", "Red")):
        lens.page.select_option("#colormap", colormap)
        lens.page.locator(".legend p").first.get_by_text(f"{color}: evidence for").wait_for()


def test_each_map_has_its_own_scale_or_both_have_a_common_one(lens: Lens, tmp_path: Path) -> None:
    png = tmp_path / "chelsea.png"
    Image.open(CHELSEA).save(png)
    lens.explain(png)
    first, second = lens.response(png, explain=2)["explanations"]
    strong, weak = sorted((first, second), key=lambda entry: -entry["strength"])
    place = {entry["label"]: number for number, entry in enumerate((first, second))}
    image = decoded(png.read_bytes())
    lens.page.get_by_role("button", name="Compare two").click()
    lens.settle()
    assert "scale" not in lens.page.locator("#compare-hint").inner_text()
    assert lens.page.get_by_role("radio", name="own scale").is_checked()
    hint = lens.page.locator("#scales-hint")
    assert hint.inner_text() == "Each map is scaled to its own maximum. Equal colors do not mean equal strength."
    for entry in (strong, weak):
        assert difference(lens.pixels(place[entry["label"]]), jet_overlay(image, entry["heatmap"], 1)) <= MAX_DIFFERENCE
        assert legend(lens, place[entry["label"]])[1] == significant(entry["strength"])
    requests = len(lens.predictions)

    lens.page.get_by_role("radio", name="common scale").check()

    strength = significant(strong["strength"])
    assert hint.inner_text() == (
        f"Both maps are scaled to the larger strength of the two, {strength}. Equal colors mean equal strength."
    )
    factor = weak["strength"] / strong["strength"]
    assert factor < 0.9, "otherwise the test shows nothing"
    assert difference(lens.pixels(place[strong["label"]]), jet_overlay(image, strong["heatmap"], 1)) <= MAX_DIFFERENCE
    assert difference(lens.pixels(place[weak["label"]]), jet_overlay(image, weak["heatmap"], factor)) <= MAX_DIFFERENCE
    assert [legend(lens, number)[1] for number in (0, 1)] == [strength, strength]
    assert lens.fact("strength", place[weak["label"]]) == significant(weak["strength"])
    assert len(lens.predictions) == requests

    lens.page.get_by_role("radio", name="own scale").check()
    assert difference(lens.pixels(place[weak["label"]]), jet_overlay(image, weak["heatmap"], 1)) <= MAX_DIFFERENCE


def test_different_methods_have_no_common_scale(lens: Lens) -> None:
    lens.explain(CHELSEA)
    lens.page.get_by_role("button", name="Compare two").click()
    lens.page.get_by_role("radio", name="common scale").check()

    choose_method(lens, "layercam")

    assert lens.page.locator("#scale-common").is_disabled()
    assert lens.page.get_by_role("radio", name="own scale").is_checked()
    assert lens.page.locator("#scales-hint").inner_text() == (
        "Each map is scaled to its own maximum: strengths of different methods or layers cannot be compared."
    )
    strengths = [lens.fact("strength", number) for number in (0, 1)]
    assert [legend(lens, number)[1] for number in (0, 1)] == strengths


# ----------------------------------------------------------------------------- unlikely classes


def test_an_unlikely_class_is_marked(lens: Lens) -> None:
    lens.explain(CHELSEA)
    for entry in lens.response(CHELSEA, explain=5)["explanations"]:
        lens.pick(entry["label"])
        unlikely = entry["probability"] < 0.05
        assert lens.page.locator(".view .low").first.is_visible() is unlikely
        assert lens.page.locator(".view .low-note").first.is_visible() is unlikely
    assert unlikely
    assert lens.page.locator(".view .low").first.inner_text() == "low probability"
    assert lens.page.locator(".view .low-note").first.inner_text() == (
        f"Red does not mean likely: the network gives this class a probability of {100 * entry['probability']:.1f}%."
    )


# ----------------------------------------------------------------------------- evidence against a class


@pytest.mark.parametrize(
    ("context", "sentence", "label"),
    [
        ({}, "Nothing in this image speaks against this class.", "nothing speaks against"),
        (GERMAN, "Nichts in diesem Bild spricht gegen diese Klasse.", "nichts spricht gegen"),
    ],
)
def test_nothing_against_a_class(open_page: Open, context: dict[str, Any], sentence: str, label: str) -> None:
    lens = open_page(**context)
    assert not lens.response(CHELSEA, method="counterfactual")["explanations"][0]["evidence"]
    lens.choose(CHELSEA)
    lens.page.wait_for_selector("#classes .class")
    lens.settle()

    choose_method(lens, "counterfactual")

    assert lens.page.locator(".no-evidence").first.inner_text() == sentence
    assert lens.page.locator(".stage canvas").first.get_attribute("aria-label") == (
        f"chelsea.jpg: {label} Egyptian cat."
    )
    assert lens.page.locator(".legend").first.is_hidden()


@pytest.mark.parametrize(
    ("context", "sentence"),
    [
        ({}, "Red: evidence against the class, of strength {}"),
        (GERMAN, "Rot: spricht gegen die Klasse, mit der Stärke {}"),
    ],
)
def test_red_means_against(open_page: Open, context: dict[str, Any], sentence: str) -> None:
    lens = open_page(**context)
    answer = lens.response(CHELSEA, method="counterfactual", targets=",".join(map(str, range(900, 1000))))
    entry = next(entry for entry in answer["explanations"] if entry["evidence"])
    lens.choose(CHELSEA)
    lens.page.wait_for_selector("#classes .class")
    lens.settle()
    choose_method(lens, "counterfactual")

    lens.search(str(entry["index"]))
    lens.page.keyboard.press("Enter")
    lens.page.wait_for_function(
        "(label) => document.querySelector('.class-name').textContent === label", arg=entry["label"]
    )

    strength = significant(entry["strength"]).replace(".", "," if context else ".")
    assert legend(lens)[2] == sentence.format(strength)
    assert lens.page.locator(".no-evidence").first.is_hidden()


# ----------------------------------------------------------------------------- the model


def test_the_page_names_the_model(lens: Lens) -> None:
    lens.explain(CHELSEA)
    weights = lens.response(CHELSEA)["model"]["weights"]

    assert lens.page.locator("#model-choice").is_visible()
    assert lens.page.locator("#provenance").inner_text() == f"Model {MODEL}, version 1.0, weights {weights}"


def test_the_name_of_the_only_model_is_visible(open_page: Open) -> None:
    lens = open_page()
    overview = {"models": [MODEL], "samples": [], "max_body_bytes": 1_000_000}
    lens.page.route("**/api/overview", lambda route: route.fulfill(json=overview))
    lens.page.reload()
    lens.page.locator("#model-choice").wait_for()
    assert lens.page.locator("#model").input_value() == MODEL


# ----------------------------------------------------------------------------- the report


def report_on(open_page: Open, lens: Lens, folder: Path, image: Path, *arguments: str, **context: Any) -> Lens:
    """Write a report on an image with the client, and open it from disk."""
    server = ["--url", lens.server.inference_url, "--model", MODEL, "--output", str(folder / "out")]
    file = folder / "report.html"
    assert predict.main([str(image), *server, *arguments, "--report", str(file)]) == 0
    opened = open_page(file.as_uri(), **context)
    opened.page.wait_for_function("() => [...document.querySelectorAll('.stage canvas')].every(({width}) => width > 0)")
    return opened


def test_a_card_is_headed_by_the_prediction(open_page: Open, lens: Lens, tmp_path: Path) -> None:
    answer = lens.response(COFFEE, targets="tabby")
    (entry,), model = answer["explanations"], answer["model"]

    report = report_on(open_page, lens, tmp_path, COFFEE, "--targets", "tabby")

    best = answer["predictions"][0]
    card = report.page.locator(".card")
    assert card.locator(".prediction").inner_text() == f"Predicted: espresso {100 * best['probability']:.1f}%"
    assert card.locator(".heading").inner_text().split("\n") == ["Map for", "tabby", "< 0.1%", "low probability"]
    assert card.locator(".low-note").inner_text() == (
        "Red does not mean likely: the network gives this class a probability of < 0.1%."
    )
    assert report.fact("strength") == significant(entry["strength"])
    assert legend(report)[1] == significant(entry["strength"])
    created = report.page.locator("#created").inner_text()
    assert f"Model {MODEL}, version 1.0, weights {model['weights']}" in created
    assert f"gradcam at {answer['layer']}" in created
    report.page.fill("#from", "50")
    assert card.is_visible()
    report.page.fill("#from", "99")
    assert card.is_hidden()


@pytest.mark.parametrize(
    ("context", "sentence"),
    [
        ({}, "Nothing in this image speaks against this class."),
        (GERMAN, "Nichts in diesem Bild spricht gegen diese Klasse."),
    ],
)
def test_a_report_on_evidence_against_a_class(
    open_page: Open, lens: Lens, tmp_path: Path, context: dict[str, Any], sentence: str
) -> None:
    report = report_on(open_page, lens, tmp_path, CHELSEA, "--method", "counterfactual", **context)
    assert report.page.locator(".no-evidence").inner_text() == sentence
    assert report.page.locator(".legend").is_hidden()
