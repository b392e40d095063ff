"""The report's summary, order, and filters; expected classes and two versions side by side. Answers are canned."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.browser.test_accessibility import violations_on
from tests.support.lens_page import Lens, difference
from tools.client.html_report import HtmlReport

CAT, DOG, CUP = ("cat", 0), ("dog", 1), ("cup", 2)
# File, predicted class, probability, and the class's map.
IMAGES = [
    ("a.png", CAT, 0.9, [[0.0, 1.0], [0.5, 0.25]]),
    ("b.png", DOG, 0.35, [[1.0, 0.0], [0.0, 0.0]]),
    ("c.png", CAT, 0.62, [[1.0, 0.0], [0.5, 0.75]]),
    ("d.png", CUP, 1.0, [[0.0, 0.0], [0.0, 0.0]]),
]
GERMAN = {"locale": "de-DE"}
PHONE = {"viewport": {"width": 360, "height": 740}}

Open = Callable[..., Lens]


def explanation(chosen: tuple[str, int], probability: float, grid: list[list[float]]) -> dict[str, Any]:
    label, index = chosen
    evidence = bool(np.max(grid))
    peak = {"peak": [1, 1]} if evidence else {}
    entry = {"index": index, "label": label, "probability": probability, "evidence": evidence, "heatmap": grid, **peak}
    return {**entry, "strength": 2.0 if evidence else 0.0}


def answer(
    chosen: tuple[str, int], probability: float, *explanations: dict[str, Any], version: str = "1.0"
) -> dict[str, Any]:
    label, index = chosen
    return {
        "predictions": [{"index": index, "label": label, "probability": probability}],
        "explanations": list(explanations),
        "method": "gradcam",
        "layer": "a",
        "image": {"width": 90, "height": 60, "region": [0, 0, 90, 60]},
        "model": {"name": "m", "version": version, "weights": "0123456789ab"},
    }


def write_report(folder: Path, entries: list[tuple[str, dict[str, Any]]]) -> Path:
    image = folder / "gray.png"
    Image.new("RGB", (90, 60), (128, 128, 128)).save(image)
    file = folder / "report.html"
    with HtmlReport(file, "m") as report:
        for name, entry in entries:
            report.add(name, image, entry)
        report.add_error("e.png", "no image")
    return file


@pytest.fixture
def report(open_page: Open, tmp_path: Path) -> Lens:
    entries = [(name, answer(chosen, share, explanation(chosen, share, grid))) for name, chosen, share, grid in IMAGES]
    return open_page(write_report(tmp_path, entries).as_uri())


def names(lens: Lens) -> list[str]:
    return list(lens.page.locator(".card:visible > h2").all_inner_texts())


def test_the_summary_counts(report: Lens) -> None:
    assert report.page.locator("#sentences li").all_inner_texts() == [
        "4 images explained, 1 not explained; 3 different predicted classes",
        "Median probability of the predicted class: 76.0%",
    ]
    counts = report.page.locator("#histogram .count").all_inner_texts()
    probabilities = [share for _, _, share, _ in IMAGES]
    assert list(map(int, counts)) == np.histogram(probabilities, bins=np.linspace(0, 1, 11))[0].tolist()
    rows = [row.split("\t")[:3] for row in report.page.locator("#class-rows tr").all_inner_texts()]
    assert [[cell.strip() for cell in row] for row in rows] == [
        ["cat", "2", "76.0%"],
        ["cup", "1", "100.0%"],
        ["dog", "1", "35.0%"],
    ]


def test_the_mean_map_of_a_class(report: Lens) -> None:
    canvas = report.page.locator(".mean-map").first
    assert canvas.get_attribute("aria-label") == "Mean of the maps for cat of 2 images"
    mean = np.mean([grid for _, chosen, _, grid in IMAGES if chosen == CAT], axis=0).astype(np.float32)
    size = canvas.evaluate("(canvas) => canvas.width")
    colors = cv2.applyColorMap((255 * cv2.resize(mean, (size, size))).astype(np.uint8), cv2.COLORMAP_JET)[:, :, ::-1]
    shown = report.page.locator(".mean-map, .stage canvas")
    assert shown.first.get_attribute("class") == "mean-map"
    assert difference(report.pixels_of(canvas), colors) <= 4
    assert report.page.locator("#class-rows tr").nth(1).locator("canvas").count() == 0, "cup has no evidence"


def test_the_order(report: Lens) -> None:
    assert names(report) == ["a.png", "b.png", "c.png", "d.png"]
    assert "differing" not in report.page.locator("#order option:not([hidden])").evaluate_all(
        "(options) => options.map((option) => option.value)"
    )
    for order, expected in (("least", "bcad"), ("most", "dacb"), ("label", "acdb"), ("given", "abcd")):
        report.page.select_option("#order", order)
        assert names(report) == [f"{name}.png" for name in expected]


def test_only_images_without_evidence(report: Lens) -> None:
    report.page.get_by_label("Only images with an empty map (1)").check()
    assert names(report) == ["d.png"]
    assert report.page.locator("#count").inner_text() == "1 of 4 images"


def test_a_class_of_the_summary_filters(report: Lens) -> None:
    report.page.get_by_role("button", name="cat", exact=True).click()
    assert names(report) == ["a.png", "c.png"]
    report.page.get_by_role("button", name="Show other classes than cat again").click()
    assert len(names(report)) == 4


def expected_report(folder: Path) -> Path:
    right = answer(CAT, 0.9, explanation(CAT, 0.9, [[0.0, 1.0], [0.5, 0.25]]))
    wrong_cup = explanation(CUP, 0.1, [[1.0, 0.0], [0.0, 0.0]])
    wrong = answer(DOG, 0.8, explanation(DOG, 0.8, [[0.0, 0.0], [0.0, 1.0]]), wrong_cup)
    entries = [("a.png", {**right, "expected": "cat"}), ("b.png", {**wrong, "expected": "cup"}), ("c.png", right)]
    return write_report(folder, entries)


def test_images_that_are_not_as_expected_come_first(open_page: Open, tmp_path: Path) -> None:
    lens = open_page(expected_report(tmp_path).as_uri())
    assert names(lens) == ["b.png", "a.png", "c.png"]
    cards = lens.page.locator(".card")
    assert cards.nth(0).locator(".verdict").inner_text() == "Expected: cup, which is another class"
    assert cards.nth(1).locator(".verdict").inner_text() == "Expected: cat"
    assert cards.nth(2).locator(".verdict").is_hidden()
    assert cards.nth(0).locator(".map-of").all_inner_texts() == ["Predicted:", "Expected:"]
    assert cards.nth(0).locator(".class-name").all_inner_texts() == ["dog", "cup"]
    assert "1 of 2 predictions are as expected (50.0%)" in lens.page.locator("#sentences li").all_inner_texts()
    lens.page.wait_for_function("() => [...document.querySelectorAll('.card canvas')].every(({width}) => width > 0)")
    gray = np.full((60, 90, 3), 128, np.uint8)
    for number, grid in enumerate(([[0.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [0.0, 0.0]])):
        resized = (255 * cv2.resize(np.array(grid, np.float32), (90, 60))).astype(np.uint8)
        colors = cv2.applyColorMap(resized, cv2.COLORMAP_JET)[:, :, ::-1]
        assert difference(lens.pixels(number), (0.6 * gray + 0.4 * colors).astype(np.uint8)) <= 3


def versions_report(folder: Path) -> Path:
    def pair(old: tuple[str, int], new: tuple[str, int], cosine: float | None) -> dict[str, Any]:
        before = answer(old, 0.9, explanation(old, 0.9, [[0.0, 1.0], [0.0, 0.0]]))
        after = answer(new, 0.7, explanation(old, 0.3, [[1.0, 0.0], [0.0, 0.0]]), version="2.0")
        return {**before, "other": after, "cosine": cosine}

    return write_report(folder, [("a", pair(CAT, CAT, 0.95)), ("b", pair(CAT, CAT, 0.2)), ("c", pair(CAT, DOG, 0.8))])


def test_two_versions_side_by_side(open_page: Open, tmp_path: Path) -> None:
    lens = open_page(versions_report(tmp_path).as_uri())
    assert names(lens) == ["c", "b", "a"], "another class first, then the smallest cosine"
    card = lens.page.locator(".card").first
    assert card.locator(".verdict").inner_text() == "Version 2.0 predicts: dog 70.0%. Cosine of the maps: 0.80"
    assert card.locator(".map-of").all_inner_texts() == ["Version 1.0:", "Version 2.0:"]
    assert card.locator(".class-name").all_inner_texts() == ["cat", "cat"]
    sentence = "2 of 3 images have the same predicted class in both versions; mean cosine of the maps: 0.65"
    assert sentence in lens.page.locator("#sentences li").all_inner_texts()
    created = lens.page.locator("#created").inner_text()
    assert "version 1.0" in created
    assert "version 2.0" in created


@pytest.mark.parametrize("context", [{}, {"color_scheme": "dark"}, PHONE, GERMAN], ids=str)
@pytest.mark.parametrize("write", [expected_report, versions_report])
def test_accessibility(open_page: Open, tmp_path: Path, write: Callable[[Path], Path], context: dict[str, Any]) -> None:
    lens = open_page(write(tmp_path).as_uri(), **context)
    lens.page.locator(".card").first.scroll_into_view_if_needed()
    lens.page.wait_for_selector(".card .view", state="visible")
    assert violations_on(lens) == []
    width = lens.page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert width[0] <= width[1]


def test_a_thousand_images_open_quickly(open_page: Open, tmp_path: Path) -> None:
    entries = [(f"{number}.png", answer(CAT, 0.9, explanation(CAT, 0.9, IMAGES[0][3]))) for number in range(1000)]
    lens = open_page(write_report(tmp_path, entries).as_uri())
    lens.page.wait_for_selector("#sentences li")
    drawn = "[...document.querySelectorAll('.stage canvas')].filter(({width}) => width > 0).length"
    print(lens.page.evaluate("performance.now()"), "ms until all cards are listed")
    assert lens.page.locator(".card").count() == 1000
    # Only those near the window are drawn.
    lens.page.wait_for_function(f"() => {drawn} > 0 && {drawn} < 100")
