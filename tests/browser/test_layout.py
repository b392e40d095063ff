"""Where things are: color scale and sliders beside the image, dialogs one click away, colors by default."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.browser.test_accessibility import violations_on
from tests.support.lens_page import EXAMPLES, MODEL, Lens

FILES = [EXAMPLES / name for name in ("chelsea.jpg", "coffee.jpg", "rocket.jpg")]
DESKTOP = {"viewport": {"width": 1280, "height": 860}}
NARROW = {"viewport": {"width": 900, "height": 860}}
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
GERMAN = {"locale": "de-DE"}

Open = Callable[..., Lens]


@pytest.mark.parametrize(
    "context",
    [{"viewport": {"width": 1280, "height": 860}}, {"viewport": {"width": 900, "height": 860}}, PHONE],
    ids=str,
)
@pytest.mark.parametrize("count", [1, 3])
def test_scale_and_sliders_are_in_view(open_page: Open, context: dict[str, Any], count: int) -> None:
    lens = open_page(**context)
    lens.choose(*FILES[:count])
    lens.wait_for("chelsea.jpg")
    height = context["viewport"]["height"]
    assert lens.page.evaluate("scrollY") == 0
    for selector in (".stage canvas", ".legend", "#alpha", "#threshold"):
        box = lens.page.locator(selector).first.bounding_box()
        assert box["y"] >= 0
        assert box["y"] + box["height"] <= height, selector
    assert lens.page.locator(".stage").first.bounding_box()["height"] > 180
    shown, reset = (lens.page.locator(selector).bounding_box() for selector in (".shown", "#zoom-reset"))
    assert reset["x"] + reset["width"] <= shown["x"] + shown["width"] + 0.5, "it would cover the panel"


def test_a_touch_screen_has_its_own_words(open_page: Open) -> None:
    lens = open_page(**PHONE)
    lens.explain(FILES[0])
    assert lens.fact("pointer") == "Touch the image"
    assert lens.page.get_by_role("button", name="Take a photograph").is_visible()
    assert lens.page.locator(".invitation").is_hidden()


def test_a_desktop_takes_no_photographs(lens: Lens) -> None:
    assert lens.page.locator("#photograph").is_hidden()


def test_constant_facts_are_out_of_the_way(lens: Lens) -> None:
    lens.explain(FILES[0])
    visible = lens.page.locator(".view dt:visible").all_inner_texts()
    assert visible == ["Strength", "Value", "Strongest point"]


def test_the_default_colors_are_safe_for_color_blind_people(open_page: Open) -> None:
    lens = open_page(jet=False)
    lens.explain(FILES[0])
    assert lens.page.locator("#colormap").input_value() == "cividis"
    expected = lens.overlay(FILES[0], 285, colormap="cividis")
    assert abs(lens.pixels().astype(int) - expected).mean() < 1


# ----------------------------------------------------------------------------- dialogs


def about(lens: Lens) -> dict[str, str]:
    lens.page.locator("[data-dialog=about]").click()
    terms, values = (lens.page.locator(f"#about {tag}").all_inner_texts() for tag in ("dt", "dd"))
    return dict(zip(terms, values, strict=True))


def test_about_this_model(lens: Lens) -> None:
    lens.explain(FILES[0])
    facts = about(lens)
    model = lens.response(FILES[0])["model"]
    assert facts["Name"] == MODEL
    assert facts["Version"] == "1.0"
    assert facts["SHA-256 of the weights"].startswith(model["weights"])
    assert len(facts["SHA-256 of the weights"]) == 64
    assert facts["Number of classes"] == "1000"
    assert facts["Input size"] == "224 × 224 pixels"
    assert facts["Preprocessing"].startswith("The whole image is resized")
    assert facts["Normalization"] == "mean 0.498 · 0.498 · 0.498, standard deviation 0.502 · 0.502 · 0.502"
    assert facts["Default layer"] == "_conv_head"
    assert facts["Engine"] == "eager"
    assert facts["Precision"] == "float32"
    assert "gradcam++" in facts["Allowed methods"]
    lens.page.get_by_role("button", name="Close").click()
    assert lens.page.locator("#about").is_hidden()


def test_about_a_model_that_sees_the_center(lens: Lens) -> None:
    lens.page.select_option("#model", "middle")
    lens.settle()
    assert about(lens)["Preprocessing"] == (
        "The shorter side is resized to 256 pixels; the network sees only the center"
    )


def test_about_a_calibrated_model(open_page: Open) -> None:
    lens = open_page()
    measured = {"calibration_images": 100, "held_back_images": 50, "agreement": 0.98}
    measured |= {"cosine_median": 0.9991, "cosine_worst": 0.912}
    lens.page.route("**/api/models/*", lambda route: route.fulfill(json={"architecture": "a", **measured}))
    lens.page.reload()
    lens.page.wait_for_selector("#samples img")
    assert about(lens)["Calibration"] == (
        "On 50 images: the same class as in float32 for 98.0%; cosine of the maps 0.999 in the median, 0.912 at worst. "
        "Calibrated on 100 other images"
    )


def test_about_a_model_without_a_description(open_page: Open) -> None:
    lens = open_page()
    lens.page.route("**/api/models/*", lambda route: route.fulfill(json={}))
    lens.page.reload()
    lens.page.wait_for_selector("#samples img")
    lens.explain(FILES[0])
    facts = about(lens)
    model = lens.response(FILES[0])["model"]
    assert facts == {"Name": MODEL, "Version": "1.0", "SHA-256 of the weights": model["weights"]}
    assert lens.page.locator("#about-unknown").is_visible()


@pytest.mark.parametrize(
    ("context", "sentence"),
    [
        ({}, "A wrong prediction has a map, too."),
        ({**GERMAN, "color_scheme": "dark"}, "Auch eine falsche Vorhersage hat eine Karte."),
        ({**PHONE, **GERMAN}, "Auch eine falsche Vorhersage hat eine Karte."),
    ],
)
def test_how_to_read_a_map(open_page: Open, context: dict[str, Any], sentence: str) -> None:
    lens = open_page(**context)
    lens.page.locator("[data-dialog=reading]").click()
    assert sentence in lens.page.locator("#reading").inner_text()
    assert violations_on(lens) == []
    lens.page.keyboard.press("Escape")
    assert lens.page.locator("#reading").is_hidden()
    about(lens)
    assert violations_on(lens) == []


def test_the_keys_are_listed_behind_a_question_mark(lens: Lens) -> None:
    lens.page.keyboard.press("?")
    assert lens.page.locator("#keys").is_visible()
    assert "read the map's values" in lens.page.locator("#keys").inner_text()
    lens.page.keyboard.press("Escape")
    lens.explain(FILES[0])
    lens.page.locator("#search").fill("")
    lens.page.locator("#search").press("?")
    assert lens.page.locator("#keys").is_hidden(), "a question mark in a search is a question mark"
