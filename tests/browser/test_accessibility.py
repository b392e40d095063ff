"""Accessibility: keyboard, screen reader, contrast, dark mode, narrow screens, languages; and reports from disk."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.encoding import decoded
from tests.support.lens_page import EXAMPLES, MODEL, Lens
from tools.client import predict

CHELSEA = EXAMPLES / "chelsea.jpg"
DARK = {"color_scheme": "dark"}
PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}
GERMAN = {"locale": "de-DE"}

Open = Callable[..., Lens]


def violations_on(lens: Lens) -> list[str]:
    """Return the violations that axe-core finds with all of its rules."""
    from axe_playwright_python.sync_playwright import Axe  # noqa: PLC0415, installed for these tests only

    violations = Axe().run(lens.page, options={"resultTypes": ["violations"]}).response["violations"]
    return [
        f"{entry['id']}: {node['html']} {node['failureSummary']}" for entry in violations for node in entry["nodes"]
    ]


@pytest.mark.parametrize("context", [{}, DARK, PHONE, GERMAN, {**DARK, **PHONE}], ids=str)
def test_axe_finds_nothing(open_page: Open, context: dict[str, object], tmp_path: Path) -> None:
    lens = open_page(**context)
    assert violations_on(lens) == []
    lens.choose(CHELSEA)
    lens.page.wait_for_selector("#classes .class")
    lens.settle()
    lens.page.locator(".save summary").click()
    assert violations_on(lens) == []
    lens.page.locator("#compare").click()
    lens.search("cat")
    lens.page.wait_for_selector("#matches [role=option]")
    assert violations_on(lens) == []
    (tmp_path / "bad.png").write_text("no")
    lens.choose(tmp_path / "bad.png")
    lens.page.wait_for_selector("#error:not([hidden])")
    assert violations_on(lens) == []


def test_axe_finds_a_missing_label(lens: Lens) -> None:
    lens.page.evaluate(
        "document.querySelector('#language').parentElement.replaceWith(document.querySelector('#language'))"
    )
    assert any(violation.startswith("select-name") for violation in violations_on(lens))


FOCUSED = "document.activeElement.id || document.activeElement.name || document.activeElement.tagName"


def test_the_tab_key_reaches_everything(lens: Lens) -> None:
    lens.explain(CHELSEA)
    lens.page.locator("#compare").click()
    lens.settle()
    lens.page.locator(".save summary").click()
    lens.page.evaluate("() => { const top = document.querySelector('h1'); top.tabIndex = -1; top.focus(); }")

    visited = []
    for _ in range(60):
        lens.page.keyboard.press("Tab")
        visited.append(lens.page.evaluate(FOCUSED))

    expected = ["BUTTON", "model", "language", "choose", "CANVAS", "alpha", "threshold", "colormap", "outline", "boxes"]
    expected += ["compare", "active", "scale", "class", "search", "method", "layer", "versus"]
    expected += ["save-overlay", "save-heatmap", "save-json", "SUMMARY", "command", "copy"]
    first = [visited.index(name) for name in expected]
    assert first == sorted(first), "the order of the tab key is the reading order"


def test_comparing_without_a_mouse(lens: Lens) -> None:
    """From opening an image to comparing classes, with the keyboard only."""
    lens.page.get_by_role("button", name="Sample image coffee.jpg").focus()
    lens.page.keyboard.press("Enter")
    lens.wait_for("coffee.jpg")
    lens.page.locator("#compare").focus()
    lens.page.keyboard.press("Space")
    lens.settle()
    lens.page.locator("#search").focus()
    lens.page.keyboard.type("espresso m")
    lens.page.keyboard.press("Enter")
    lens.page.wait_for_function("() => document.querySelectorAll('.class-name')[1].textContent === 'espresso maker'")
    assert lens.title(0) == "espresso"


def test_roles_and_names_for_screen_readers(lens: Lens) -> None:
    lens.explain(CHELSEA)
    x, y = lens.response(CHELSEA)["explanations"][0]["peak"]
    image = lens.page.get_by_role("img", name=f"chelsea.jpg with the map for Egyptian cat: strongest at {x}, {y}.")
    assert image.count() == 1
    assert lens.page.get_by_role("radio", name="tiger cat 7.3%").count() == 1
    assert lens.page.get_by_role("group", name="Predicted classes").count() == 1
    assert lens.page.locator("#status").get_attribute("role") == "status"
    assert lens.page.locator("#error").get_attribute("role") == "alert"


@pytest.mark.parametrize("width", [320, 390, 768])
def test_nothing_overflows_a_narrow_screen(open_page: Open, width: int) -> None:
    lens = open_page(viewport={"width": width, "height": 740})
    lens.explain(CHELSEA)
    lens.page.locator("#compare").click()
    lens.page.locator(".save summary").click()
    assert lens.page.evaluate("document.documentElement.scrollWidth") == width


def test_dark_mode(open_page: Open) -> None:
    background = "getComputedStyle(document.body).backgroundColor"
    dark, light = (
        sum(map(int, re.findall(r"\d+", lens.page.evaluate(background)))) / 3
        for lens in (open_page(**DARK), open_page())
    )
    assert dark < 40
    assert light > 230


def test_german(open_page: Open) -> None:
    lens = open_page(**GERMAN)
    lens.choose(CHELSEA)
    lens.page.get_by_text("chelsea.jpg ist erklärt").wait_for()
    assert lens.page.get_attribute("html", "lang") == "de"
    assert lens.probabilities()[0] == "82,1\N{NO-BREAK SPACE}%"

    lens.page.select_option("#language", "en")
    lens.page.wait_for_function("() => document.documentElement.lang === 'en'")
    assert lens.probabilities()[0] == "82.1%"
    lens.page.reload()
    lens.page.wait_for_selector("#samples img")
    assert lens.page.get_attribute("html", "lang") == "en", "the choice is stored"


def test_nothing_is_fetched_from_other_sites(lens: Lens) -> None:
    lens.explain(CHELSEA)
    origins = {re.match(r"\w+:(//[^/]+)?", url)[0] for url in lens.urls}  # type: ignore[index]
    assert len(origins) == 1


# ----------------------------------------------------------------------------- the report


@pytest.fixture
def report(open_page: Open, lens: Lens, tmp_path: Path) -> Lens:
    """The client's report on four files, opened from disk."""
    (tmp_path / "in").mkdir()
    for name in ("chelsea", "coffee", "rocket"):
        Image.open(EXAMPLES / f"{name}.jpg").resize((450, 300)).save(tmp_path / "in" / f"{name}.png")
    (tmp_path / "in" / "bad.png").write_text("no")
    arguments = ["--url", lens.server.inference_url, "--model", MODEL, "--output", str(tmp_path / "out")]
    file = tmp_path / "report.html"
    assert predict.main([str(tmp_path / "in"), *arguments, "--report", str(file)]) == 1
    opened = open_page(file.as_uri())
    opened.page.wait_for_function("() => [...document.querySelectorAll('canvas')].every((canvas) => canvas.width > 0)")
    return opened


def names(lens: Lens) -> list[str]:
    return [Path(name).stem for name in lens.page.locator(".card:visible > h2").all_inner_texts()]


def test_a_report_opens_from_disk(report: Lens, tmp_path: Path) -> None:
    assert names(report) == ["chelsea", "coffee", "rocket"]
    titles = report.page.locator(".card .class-name").all_inner_texts()
    assert titles == ["Egyptian cat", "espresso", "drilling platform"]
    assert "not an image" in report.page.locator("#errors li").inner_text()
    assert {url.split(":")[0] for url in report.urls} <= {"file", "data"}
    assert sum(url.startswith("file:") for url in report.urls) == 1
    for number, (name, target) in enumerate({"chelsea": 285, "coffee": 967, "rocket": 540}.items()):
        server = report.overlay(tmp_path / "in" / f"{name}.png", target)
        # The thumbnail is a JPEG.
        assert np.abs(report.pixels(number).astype(int) - server).mean() < 3


def test_filtering_a_report(report: Lens) -> None:
    report.page.fill("#label", "ESPRESSO")
    assert names(report) == ["coffee"]
    assert report.page.locator("#count").inner_text() == "1 of 3 images"
    report.page.fill("#label", "")
    report.page.fill("#to", "85")
    assert names(report) == ["chelsea", "rocket"]
    report.page.fill("#from", "50")
    assert names(report) == ["chelsea"]
    report.page.fill("#from", "99")
    assert report.page.locator("#none").is_visible()


def test_display_settings_of_a_report(report: Lens, tmp_path: Path) -> None:
    report.page.locator("#alpha").fill("0")
    report.page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    image = decoded((tmp_path / "in" / "coffee.png").read_bytes())
    assert np.abs(report.pixels(1).astype(int) - image).mean() < 3


def test_accessibility_of_a_report(report: Lens) -> None:
    assert violations_on(report) == []
    report.page.select_option("#language", "de")
    assert report.page.locator("h1").inner_text() == "Erklärte Bilder"
    assert violations_on(report) == []
    report.page.set_viewport_size({"width": 360, "height": 740})
    assert report.page.evaluate("document.documentElement.scrollWidth") == 360


def test_only_cards_near_the_window_take_memory(report: Lens) -> None:
    report.page.set_viewport_size({"width": 360, "height": 300})
    drawn = "() => [...document.querySelectorAll('.stage canvas')].map((canvas) => canvas.width > 0).join()"

    report.page.evaluate("scrollTo(0, document.body.scrollHeight)")
    report.page.wait_for_function(f"() => ({drawn})() === 'false,false,true'")
    report.page.evaluate("document.querySelector('.card').scrollIntoView()")
    report.page.wait_for_function(f"() => ({drawn})().startsWith('true') && ({drawn})().endsWith('false')")
    assert report.title() == "Egyptian cat"
