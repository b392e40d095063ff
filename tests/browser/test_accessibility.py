"""For everybody: keys, screen reader, contrast, dark mode, a phone's width, two languages; and the report on disk."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.encoding import decoded
from tests.support.lens_page import EXAMPLES, MODEL, Lens
from tools.client import client as predict

CHELSEA = EXAMPLES / "chelsea.jpg"
DARK = {"color_scheme": "dark"}
PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}
GERMAN = {"locale": "de-DE"}

Open = Callable[..., Lens]


def findings(lens: Lens) -> list[str]:
    """What axe-core has to say, by all of its rules."""
    from axe_playwright_python.sync_playwright import Axe  # noqa: PLC0415, installed for these tests only

    found = Axe().run(lens.page, options={"resultTypes": ["violations"]}).response["violations"]
    return [f"{entry['id']}: {node['html']} {node['failureSummary']}" for entry in found for node in entry["nodes"]]


@pytest.mark.parametrize("context", [{}, DARK, PHONE, GERMAN, {**DARK, **PHONE}], ids=str)
def test_axe_finds_nothing(open_page: Open, context: dict[str, object], tmp_path: Path) -> None:
    lens = open_page(**context)
    assert findings(lens) == []
    lens.choose(CHELSEA)
    lens.page.wait_for_selector("#classes .class")
    lens.settle()
    lens.page.locator("summary").click()
    assert findings(lens) == []
    lens.page.locator("#compare").click()
    lens.search("cat")
    lens.page.wait_for_selector("#found [role=option]")
    assert findings(lens) == []
    (tmp_path / "bad.png").write_text("no")
    lens.choose(tmp_path / "bad.png")
    lens.page.wait_for_selector("#trouble:not([hidden])")
    assert findings(lens) == []


def test_axe_would_find_something(lens: Lens) -> None:
    lens.page.evaluate(
        "document.querySelector('#language').parentElement.replaceWith(document.querySelector('#language'))"
    )
    assert any(finding.startswith("select-name") for finding in findings(lens))


FOCUSED = "document.activeElement.id || document.activeElement.name || document.activeElement.tagName"


def test_everything_is_reached_with_the_tab_key(lens: Lens) -> None:
    lens.explain(CHELSEA)
    lens.page.locator("#compare").click()
    lens.settle()
    lens.page.locator("summary").click()
    lens.page.evaluate("() => { const top = document.querySelector('h1'); top.tabIndex = -1; top.focus(); }")

    visited = []
    for _ in range(60):
        lens.page.keyboard.press("Tab")
        visited.append(lens.page.evaluate(FOCUSED))

    needed = ["language", "choose", "photograph", "BUTTON", "CANVAS", "compare", "active", "class", "search", "method"]
    needed += ["layer", "keep-overlay", "keep-json", "SUMMARY", "command", "copy", "alpha", "threshold", "colormap"]
    first = [visited.index(name) for name in needed]
    assert first == sorted(first), "in the order in which they are read"


def test_the_page_without_a_mouse(lens: Lens) -> None:
    """From nothing to a compared class with keys only."""
    lens.page.get_by_role("button", name="Sample picture coffee.jpg").focus()
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


def test_a_screen_reader_hears_what_is_there(lens: Lens) -> None:
    lens.explain(CHELSEA)
    x, y = lens.answer(CHELSEA)["explanations"][0]["peak"]
    picture = lens.page.get_by_role("img", name=f"chelsea.jpg with the map for Egyptian cat: strongest at {x}, {y}.")
    assert picture.count() == 1
    assert lens.page.get_by_role("radio", name="tiger cat 7.3%").count() == 1
    assert lens.page.get_by_role("group", name="What the network says").count() == 1
    assert lens.page.locator("#status").get_attribute("role") == "status"
    assert lens.page.locator("#trouble").get_attribute("role") == "alert"


@pytest.mark.parametrize("width", [320, 390, 768])
def test_nothing_sticks_out(open_page: Open, width: int) -> None:
    lens = open_page(viewport={"width": width, "height": 740})
    lens.explain(CHELSEA)
    lens.page.locator("#compare").click()
    lens.page.locator("summary").click()
    assert lens.page.evaluate("document.documentElement.scrollWidth") == width


def test_dark_is_dark(open_page: Open) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    dark, light = (
        sum(map(int, re.findall(r"\d+", lens.page.evaluate(ground)))) / 3 for lens in (open_page(**DARK), open_page())
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
    assert lens.page.get_attribute("html", "lang") == "en", "the choice is kept"


def test_nothing_is_fetched_from_elsewhere(lens: Lens) -> None:
    lens.explain(CHELSEA)
    origins = {re.match(r"\w+:(//[^/]+)?", address)[0] for address in lens.addresses}  # type: ignore[index]
    assert len(origins) == 1


# ----------------------------------------------------------------------------- the report


@pytest.fixture
def report(open_page: Open, lens: Lens, tmp_path: Path) -> Lens:
    """What the client wrote about four files, opened from disk."""
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
    assert "not a picture" in report.page.locator("#errors li").inner_text()
    assert {address.split(":")[0] for address in report.addresses} <= {"file", "data"}
    assert sum(address.startswith("file:") for address in report.addresses) == 1
    for number, (name, target) in enumerate({"chelsea": 285, "coffee": 967, "rocket": 540}.items()):
        server = report.overlay(tmp_path / "in" / f"{name}.png", target)
        # The thumbnail is a JPEG.
        assert np.abs(report.pixels(number).astype(int) - server).mean() < 3


def test_a_report_is_filtered(report: Lens) -> None:
    report.page.fill("#label", "ESPRESSO")
    assert names(report) == ["coffee"]
    assert report.page.locator("#count").inner_text() == "1 of 3 pictures"
    report.page.fill("#label", "")
    report.page.fill("#to", "85")
    assert names(report) == ["chelsea", "rocket"]
    report.page.fill("#from", "50")
    assert names(report) == ["chelsea"]
    report.page.fill("#from", "99")
    assert report.page.locator("#none").is_visible()


def test_a_report_is_drawn_in_another_look(report: Lens, tmp_path: Path) -> None:
    report.page.locator("#alpha").fill("0")
    report.page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    picture = decoded((tmp_path / "in" / "coffee.png").read_bytes())
    assert np.abs(report.pixels(1).astype(int) - picture).mean() < 3


def test_a_report_for_everybody(report: Lens) -> None:
    assert findings(report) == []
    report.page.select_option("#language", "de")
    assert report.page.locator("h1").inner_text() == "Erklärte Bilder"
    assert findings(report) == []
    report.page.set_viewport_size({"width": 360, "height": 740})
    assert report.page.evaluate("document.documentElement.scrollWidth") == 360


def test_only_what_is_near_the_window_takes_memory(report: Lens) -> None:
    report.page.set_viewport_size({"width": 360, "height": 300})
    drawn = "() => [...document.querySelectorAll('.view canvas')].map((canvas) => canvas.width > 0).join()"

    report.page.evaluate("scrollTo(0, document.body.scrollHeight)")
    report.page.wait_for_function(f"() => ({drawn})() === 'false,false,true'")
    report.page.evaluate("document.querySelector('.card').scrollIntoView()")
    report.page.wait_for_function(f"() => ({drawn})().startsWith('true') && ({drawn})().endsWith('false')")
    assert report.title() == "Egyptian cat"
