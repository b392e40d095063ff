"""Why one class rather than another, outline, boxes, and the heat map alone: as the server answers and draws them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.support.encoding import Pixels, decoded
from tests.support.lens_page import EXAMPLES, Lens, difference

CHELSEA = EXAMPLES / "chelsea.jpg"
CAT, TIGER, TABBY = 285, 282, 281
MAX_DIFFERENCE = 2

Open = Callable[..., Lens]


def contrast(lens: Lens, index: int | str) -> None:
    lens.page.select_option("#versus", str(index))
    lens.settle()


# ----------------------------------------------------------------------------- rather than another class


def test_why_one_class_rather_than_another(lens: Lens, png: Path) -> None:
    lens.explain(png)
    entry = lens.response(png, targets=CAT, versus=TABBY)["explanations"][0]

    contrast(lens, TABBY)

    assert lens.page.locator(".view .versus").first.inner_text() == "rather than tabby"
    assert difference(lens.pixels(), lens.overlay(png, CAT, versus=TABBY)) <= MAX_DIFFERENCE
    strength = np.format_float_positional(entry["strength"], precision=3, unique=False, fractional=False, trim="-")
    assert lens.fact("strength") == strength
    sentence = lens.page.locator(".legend p").first.inner_text()
    assert sentence == f"Red: raises the class above tabby, with strength {strength}"
    assert len(lens.predictions) == 2
    lens.page.get_by_role("radio", name="tabby").check()
    lens.settle()
    assert lens.page.locator("#versus").input_value() == "", "a class is not contrasted with itself"
    assert difference(lens.pixels(), lens.overlay(png, TABBY)) <= MAX_DIFFERENCE


def test_nothing_raises_a_class_above_another(lens: Lens) -> None:
    targets = ",".join(map(str, range(900, 1000)))
    answer = lens.response(CHELSEA, targets=targets, versus=CAT)["explanations"]
    entry = next(entry for entry in answer if not entry["evidence"])
    lens.explain(CHELSEA)
    lens.search(str(entry["index"]))
    lens.page.keyboard.press("Enter")
    lens.page.wait_for_function(
        "(label) => document.querySelector('.class-name').textContent === label", arg=entry["label"]
    )

    contrast(lens, CAT)

    assert lens.page.locator(".no-evidence").first.inner_text() == (
        "Nothing in this image raises this class above Egyptian cat."
    )


@pytest.mark.parametrize("method", ["gradcam", "gradcam++", "xgradcam", "hirescam", "layercam", "eigengradcam"])
def test_the_server_contrasts_with_every_method_that_offers_it(lens: Lens, method: str) -> None:
    assert (
        lens.response(CHELSEA, targets=CAT, versus=TIGER, method=method)["explanations"][0]["versus"]["index"] == TIGER
    )
    lens.explain(CHELSEA)
    lens.page.select_option("#method", "" if method == "gradcam" else method)
    lens.settle()
    assert lens.page.locator("#contrast").is_visible()


def test_a_method_without_contrast_ends_it(lens: Lens, png: Path) -> None:
    lens.explain(png)
    contrast(lens, TABBY)

    lens.page.select_option("#method", "finercam")
    lens.settle()

    assert lens.page.locator("#contrast").is_hidden()
    assert lens.page.locator(".view .versus").first.is_hidden()
    assert difference(lens.pixels(), lens.overlay(png, CAT, method="finercam")) <= MAX_DIFFERENCE


def test_only_allowed_methods_are_offered(open_page: Open) -> None:
    lens = open_page()
    description = lens.page.evaluate("fetch('api/models/efficientnet_lite0').then((answer) => answer.json())")
    description["methods"] = ["gradcam", "layercam"]
    lens.page.route("**/api/models/*", lambda route: route.fulfill(json=description))
    lens.page.reload()
    lens.page.wait_for_selector("#samples img")
    lens.explain(CHELSEA)
    assert lens.page.locator("#method option").all_inner_texts() == ["gradcam (default)", "layercam"]


# ----------------------------------------------------------------------------- outline and boxes


def switch(lens: Lens, name: str, share: float | None = None) -> None:
    lens.page.locator(f"#{name}").check()
    if share is not None:
        lens.page.locator("#share").fill(str(share))
    lens.page.evaluate("() => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)))")


def expected_boxes(lens: Lens, file: Path, target: int, share: float, **options: Any) -> list[Any]:
    answer = lens.response(file, targets=target, boxes=share, **options)
    return [entry["box"] for entry in answer["explanations"][0]["boxes"]]


@pytest.mark.parametrize(("target", "share"), [("Egyptian cat", 0.5), ("Egyptian cat", 0.8), ("tiger cat", 0.45)])
@pytest.mark.parametrize("model", ["efficientnet_lite0", "middle"])
def test_boxes_are_the_servers(lens: Lens, png: Path, model: str, target: str, share: float) -> None:
    lens.page.select_option("#model", model)
    lens.settle()
    lens.explain(png)
    lens.pick(target)

    switch(lens, "boxes", share)

    expected = expected_boxes(lens, png, {"Egyptian cat": CAT, "tiger cat": TIGER}[target], share, model=model)
    stage = lens.page.locator(".stage canvas").first.bounding_box()
    marks = lens.page.locator(".view").first.locator(".box-mark").all()
    shown = []
    for mark in marks:
        box = mark.bounding_box()
        left, top = (box["x"] - stage["x"]) / stage["width"] * 451, (box["y"] - stage["y"]) / stage["height"] * 300
        shown.append(
            [left, top, left + box["width"] / stage["width"] * 451, top + box["height"] / stage["height"] * 300]
        )
    assert np.abs(np.array(shown) - np.array(expected)).max() < 1
    left, top, right, bottom = expected[0]
    assert lens.fact("boxed").startswith(f"{len(expected)}; the largest region covers ")
    assert lens.fact("boxed").endswith(f"within {left}, {top} to {right}, {bottom}")


def test_an_outline_is_the_servers(lens: Lens, png: Path) -> None:
    lens.explain(png)
    lens.page.locator("#alpha").fill("0")

    switch(lens, "outline", 0.6)

    server = lens.overlay(png, CAT, style="outline", boxes=0.6)
    image = decoded(png.read_bytes())
    drawn, expected = lens.pixels() != image, server != image
    both = (drawn & expected).any(axis=2).sum()
    either = (drawn | expected).any(axis=2).sum()
    assert expected.any()
    assert both / either > 0.8, "the lines differ by a pixel of their width at most"
    grown = cv2.dilate(expected.any(axis=2).astype(np.uint8), np.ones((5, 5), np.uint8))
    assert not (drawn.any(axis=2) & (grown == 0)).any()


def test_the_outline_follows_the_share(lens: Lens, png: Path) -> None:
    lens.explain(png)
    requests = len(lens.predictions)
    assert lens.page.locator("#share-control").is_hidden()
    switch(lens, "outline", 0.5)
    half = lens.pixels()
    switch(lens, "outline", 0.9)
    assert (lens.pixels() != half).any()
    assert len(lens.predictions) == requests


def test_a_saved_image_has_outline_and_boxes(lens: Lens, png: Path) -> None:
    lens.explain(png)
    lens.page.locator("#alpha").fill("0")
    switch(lens, "boxes", 0.8)
    switch(lens, "outline")

    with lens.page.expect_download() as download:
        lens.page.locator("#save-overlay").click()

    image = decoded(png.read_bytes())
    saved = decoded(Path(download.value.path()).read_bytes())[:300, :451]
    changed = (saved != image).any(axis=2)
    outline = (lens.overlay(png, CAT, style="outline", boxes=0.8) != image).any(axis=2)
    assert (changed & outline).sum() / outline.sum() > 0.85
    for left, top, right, bottom in expected_boxes(lens, png, CAT, 0.8):
        edge = [(left + right) // 2, max(0, top)], [max(0, left), (top + bottom) // 2]
        for x, y in edge:
            assert changed[y, x]


# ----------------------------------------------------------------------------- the heat map alone


def saved_heatmap(lens: Lens) -> tuple[str, Pixels, dict[str, str]]:
    with lens.page.expect_download() as download:
        lens.page.get_by_role("button", name="Heat map alone (PNG)").click()
    path = Path(download.value.path())
    with Image.open(path) as image:
        image.load()
        texts = dict(image.text)
    return download.value.suggested_filename, decoded(path.read_bytes()), texts


@pytest.mark.parametrize(("model", "colormap"), [("efficientnet_lite0", "jet"), ("middle", "jet"), ("middle", "gray")])
def test_the_heat_map_alone_is_the_servers(lens: Lens, png: Path, model: str, colormap: str) -> None:
    lens.page.select_option("#model", model)
    lens.settle()
    lens.explain(png)
    lens.page.select_option("#colormap", colormap)

    name, heatmap, texts = saved_heatmap(lens)

    server = lens.overlay(png, CAT, model, style="heatmap", colormap=colormap)
    # One level of the map is up to 4 gray levels in jet.
    assert difference(heatmap, server) <= 4
    assert np.abs(heatmap.astype(int) - server).mean() < 0.1
    assert name == "chelsea.285-egyptian-cat.heatmap.png"
    assert texts["class"] == "285 Egyptian cat"


def test_a_saved_contrast_names_both_classes(lens: Lens, png: Path) -> None:
    lens.explain(png)
    contrast(lens, TABBY)
    assert saved_heatmap(lens)[2]["versus"] == "281 tabby"
