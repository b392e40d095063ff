"""The difference of two maps, and zoom and pan of all figures together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.browser.test_accessibility import violations_on
from tests.support.encoding import Pixels, decoded
from tests.support.lens_page import EXAMPLES, Lens, difference

CHELSEA = EXAMPLES / "chelsea.jpg"
ORANGE, BLUE = np.array([230, 120, 0]), np.array([0, 90, 200])


def significant(value: float) -> str:
    return np.format_float_positional(value, precision=3, unique=False, fractional=False, trim="-")


def tinted(image: Pixels, first: Any, second: Any, factors: tuple[float, float]) -> tuple[Pixels, float]:
    """Return the image with the difference of two maps in orange and blue, and the largest difference."""
    maps = [cv2.resize(np.array(grid, np.float32), image.shape[1::-1]) for grid in (first, second)]
    values = factors[0] * maps[0] - factors[1] * maps[1]  # (H, W)
    largest = float(np.abs(values).max())
    share = 0.85 * np.abs(values / largest)[:, :, None]  # (H, W, 1)
    color = np.where((values > 0)[:, :, None], ORANGE, BLUE)  # (H, W, 3)
    return np.rint(image * (1 - share) + color * share).astype(np.uint8), largest


def show_difference(lens: Lens) -> None:
    lens.page.get_by_role("button", name="Compare two").click()
    lens.settle()
    lens.page.get_by_label("Show the difference").check()


def test_the_difference_of_two_classes(lens: Lens, png: Path) -> None:
    lens.explain(png)
    show_difference(lens)

    first, second = lens.response(png, explain=2)["explanations"]
    factors = first["strength"], second["strength"]
    expected, largest = tinted(decoded(png.read_bytes()), first["heatmap"], second["heatmap"], factors)
    shown = lens.page.locator(".difference canvas")
    assert difference(lens.pixels_of(shown), expected) <= 2
    sentence = f"Orange: A is stronger; blue: B is stronger, by a strength of up to {significant(largest)}."
    assert lens.page.locator(".difference figcaption").inner_text() == sentence
    assert violations_on(lens) == []
    lens.page.get_by_label("Show the difference").uncheck()
    assert lens.page.locator(".difference").is_hidden()


def test_the_difference_of_two_methods_compares_shares(lens: Lens, png: Path) -> None:
    lens.explain(png)
    show_difference(lens)
    lens.pick("Egyptian cat")
    lens.page.select_option("#layer", "_blocks.10")
    lens.settle()

    first = lens.response(png)["explanations"][0]
    second = lens.response(png, layer="_blocks.10")["explanations"][0]
    assert np.shape(first["heatmap"]) != np.shape(second["heatmap"])
    expected, _ = tinted(decoded(png.read_bytes()), first["heatmap"], second["heatmap"], (1, 1))
    assert difference(lens.pixels_of(lens.page.locator(".difference canvas")), expected) <= 2
    assert "each map scaled to its own maximum" in lens.page.locator(".difference figcaption").inner_text()


def boxes(lens: Lens) -> list[dict[str, float]]:
    return [lens.page.locator(".stage canvas").nth(number).bounding_box() for number in (0, 1)]


def test_both_images_are_enlarged_and_moved_together(lens: Lens) -> None:
    lens.explain(CHELSEA)
    lens.page.get_by_role("button", name="Compare two").click()
    lens.settle()
    before = boxes(lens)
    assert lens.page.locator("#zoom-out").is_disabled()

    lens.page.get_by_role("button", name="Enlarge").click()
    lens.page.locator(".stage canvas").nth(1).press("+")

    enlarged = boxes(lens)
    for small, large in zip(before, enlarged, strict=True):
        assert large["width"] / small["width"] == pytest.approx(2.25, rel=0.01)
        # The center stays.
        assert large["x"] + large["width"] / 2 == pytest.approx(small["x"] + small["width"] / 2, abs=1)
    stage = lens.page.locator(".stage").first.bounding_box()
    x, y = stage["x"] + stage["width"] / 2, stage["y"] + stage["height"] / 2
    lens.page.mouse.move(x, y)
    lens.page.mouse.down()
    lens.page.mouse.move(x + 30, y + 10)
    lens.page.mouse.up()
    for large, moved in zip(enlarged, boxes(lens), strict=True):
        assert moved["x"] - large["x"] == pytest.approx(30, abs=1)
        assert moved["y"] - large["y"] == pytest.approx(10, abs=1)
    lens.page.get_by_role("button", name="Whole image").click()
    for small, whole in zip(before, boxes(lens), strict=True):
        assert whole == pytest.approx(small)


def test_values_are_read_from_an_enlarged_image(lens: Lens) -> None:
    lens.explain(CHELSEA)
    stage = lens.page.locator(".stage").first.bounding_box()
    x, y = stage["x"] + stage["width"] / 4, stage["y"] + stage["height"] / 4
    lens.page.mouse.move(x, y)
    lens.page.keyboard.down("Control")
    lens.page.mouse.wheel(0, -100)
    lens.page.keyboard.up("Control")
    lens.page.wait_for_function("() => document.querySelector('#views').classList.contains('enlarged')")
    lens.page.mouse.move(x + 3, y)
    lens.page.mouse.move(x, y)
    position = lens.fact("pointer").split(" at ")[1].split(", ")
    assert [int(value) for value in position] == [pytest.approx(451 / 4, abs=2), pytest.approx(300 / 4, abs=2)]
