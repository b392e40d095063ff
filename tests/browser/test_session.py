"""Several images at once: all are explained, and the strip leads from one to the next."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.lens_page import EXAMPLES, Lens

NAMES = ["chelsea.jpg", "coffee.jpg", "rocket.jpg"]
FILES = [EXAMPLES / name for name in NAMES]


def verdicts(lens: Lens) -> dict[str, str]:
    result = {}
    for name in NAMES:
        best = lens.response(EXAMPLES / name)["predictions"][0]
        result[name] = f"{best['label']} {100 * best['probability']:.1f}%"
    return result


def test_all_files_are_explained(lens: Lens) -> None:
    lens.choose(*FILES)
    lens.wait_for("chelsea.jpg")
    lens.wait_for_all()

    assert dict(lens.strip()) == verdicts(lens)
    assert lens.title() == "Egyptian cat"
    assert lens.page.locator("#strip-count").inner_text() == "Image 1 of 3"
    assert len(lens.predictions) == 3
    thumbnails = (
        "() => [...document.querySelectorAll('#strip canvas.thumbnail')].filter(({width}) => width === 112).length"
    )
    lens.page.wait_for_function(f"() => ({thumbnails})() === 3")


def test_an_image_of_the_strip_needs_no_request(lens: Lens) -> None:
    lens.choose(*FILES)
    lens.wait_for("chelsea.jpg")
    lens.wait_for_all()

    lens.page.locator("#strip button").nth(1).click()
    lens.wait_for("coffee.jpg")
    assert lens.title() == "espresso"
    for key, name, label in (
        ("ArrowRight", "rocket.jpg", "drilling platform"),
        ("ArrowLeft", "coffee.jpg", "espresso"),
    ):
        lens.page.keyboard.press(key)
        lens.wait_for(name)
        assert lens.title() == label
    assert len(lens.predictions) == 3


def test_a_bad_file_among_good_ones(lens: Lens, tmp_path: Path) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_text("no")
    lens.choose(FILES[0], bad, FILES[1])
    lens.wait_for("chelsea.jpg")
    lens.wait_for_all()

    assert lens.strip()[1] == ("bad.jpg", "not explained")
    assert lens.strip()[2][1].startswith("espresso")
    lens.page.locator("#strip button").nth(1).click()
    lens.page.wait_for_selector("#error:not([hidden])")
    assert lens.page.locator("#error-title").inner_text() == "bad.jpg cannot be explained"
    assert lens.page.locator("#workbench").is_hidden()
    lens.page.locator("#strip button").nth(2).click()
    lens.wait_for("coffee.jpg")
    assert lens.page.locator("#error").is_hidden()


def test_another_model_explains_all_images_again(lens: Lens) -> None:
    lens.choose(*FILES)
    lens.wait_for("chelsea.jpg")
    lens.wait_for_all()
    lens.page.select_option("#model", "middle")
    lens.page.wait_for_function("() => document.body.classList.contains('busy') === false")
    lens.wait_for_all()
    middle = lens.response(FILES[2], "middle")["predictions"][0]
    assert lens.strip()[2][1] == f"{middle['label']} {100 * middle['probability']:.1f}%"


# ----------------------------------------------------------------------------- order, expected classes, storage


def explain_all(lens: Lens) -> None:
    lens.choose(*FILES)
    lens.wait_for("chelsea.jpg")
    lens.wait_for_all()


def names(lens: Lens) -> list[str]:
    return [name for name, _ in lens.strip()]


def test_sorting_and_filtering(lens: Lens) -> None:
    explain_all(lens)
    lens.page.get_by_text("Sort and filter").click()
    for order, expected in (("least", [2, 0, 1]), ("most", [1, 0, 2]), ("label", [2, 0, 1]), ("added", [0, 1, 2])):
        lens.page.select_option("#strip-order", order)
        assert names(lens) == [NAMES[number] for number in expected]
    lens.page.fill("#strip-label", "CAT")
    assert names(lens) == ["chelsea.jpg"]
    lens.page.fill("#strip-label", "")
    lens.page.fill("#strip-to", "85")
    assert names(lens) == ["chelsea.jpg", "rocket.jpg"]
    lens.page.fill("#strip-from", "50")
    assert names(lens) == ["chelsea.jpg"]
    assert lens.page.locator("#strip-count").inner_text() == "Image 1 of 1"


def test_images_that_are_not_as_expected_come_first(lens: Lens, tmp_path: Path) -> None:
    explain_all(lens)
    labels = tmp_path / "labels.csv"
    labels.write_text("file,label\nphotos/coffee.jpg,espresso\nrocket.jpg,space shuttle\n")
    lens.page.set_input_files("#expected-file", labels)

    lens.wait_for("rocket.jpg")
    assert names(lens) == ["rocket.jpg", "chelsea.jpg", "coffee.jpg"]
    assert lens.strip()[0][1].endswith("%, expected space shuttle")
    assert (lens.title(0), lens.title(1)) == ("drilling platform", "space shuttle")
    assert lens.page.locator("#expected").input_value() == "space shuttle"
    server = lens.overlay(FILES[2], 812)
    assert abs(lens.pixels(1).astype(int) - server).mean() < 1
    lens.page.locator("#strip button").nth(2).click()
    lens.wait_for("coffee.jpg")
    assert lens.page.locator(".view").nth(1).is_hidden(), "the prediction is the expected class"


def test_choosing_the_expected_class(lens: Lens) -> None:
    lens.explain(FILES[0])
    lens.page.select_option("#expected", "tabby")
    lens.wait_for("chelsea.jpg")
    lens.page.wait_for_function("() => !document.querySelectorAll('.view')[1].hidden")
    assert (lens.title(0), lens.title(1)) == ("Egyptian cat", "tabby")


def test_the_session_survives_a_reload(lens: Lens) -> None:
    explain_all(lens)
    lens.page.locator("#strip button").nth(1).click()
    lens.wait_for("coffee.jpg")
    lens.pick("coffee mug")
    address = lens.page.url
    count = len(lens.predictions)

    lens.page.reload()

    lens.wait_for("coffee.jpg")
    assert lens.page.url == address
    assert lens.title() == "coffee mug"
    assert dict(lens.strip()) == verdicts(lens)
    assert len(lens.predictions) == count, "answers are stored as well"


def test_results_of_other_weights_are_not_kept(lens: Lens) -> None:
    explain_all(lens)
    count = len(lens.predictions)
    description = lens.page.evaluate("fetch('api/models/efficientnet_lite0').then((answer) => answer.json())")
    description["weights_sha256"] = "0" * 64
    lens.page.route("**/api/models/*", lambda route: route.fulfill(json=description))
    lens.page.reload()
    lens.wait_for("chelsea.jpg")
    lens.wait_for_all()
    assert len(lens.predictions) == count + 3


def test_deleting_all_images(lens: Lens) -> None:
    explain_all(lens)
    lens.page.get_by_text("All images", exact=True).click()
    lens.page.get_by_role("button", name="Delete all images").click()
    assert lens.page.locator("#session").is_hidden()
    assert lens.page.locator("#workbench").is_hidden()
    assert "#" not in lens.page.url
    lens.page.reload()
    lens.page.wait_for_selector("#samples img")
    assert lens.page.locator("#session").is_hidden()
    stored = """() => new Promise((resolve) => {
      const opening = indexedDB.open("lens", 1);
      opening.onsuccess = () => {
        const counting = opening.result.transaction("images").objectStore("images").count();
        counting.onsuccess = () => resolve(counting.result);
      };
    })"""
    assert lens.page.evaluate(stored) == 0


# ----------------------------------------------------------------------------- export and print


def exported(lens: Lens, button: str) -> Path:
    if not lens.page.locator("#export-csv").is_visible():
        lens.page.get_by_text("All images", exact=True).click()
    with lens.page.expect_download() as download:
        lens.page.get_by_role("button", name=button).click()
    return Path(download.value.path())


def test_exporting_as_csv(lens: Lens, tmp_path: Path) -> None:
    odd = tmp_path / '=1+1,"x".jpg'
    odd.write_bytes(FILES[0].read_bytes())
    bad = tmp_path / "bad.jpg"
    bad.write_text("no")
    lens.choose(odd, FILES[1], bad)
    lens.wait_for(odd.name)
    lens.wait_for_all()

    with exported(lens, "Save predictions (CSV)").open(newline="", encoding="utf-8") as file:
        first, second, third = csv.DictReader(file)

    answer = lens.response(FILES[1])
    best, model = answer["explanations"][0], answer["model"]
    assert first["file"] == f"'{odd.name}", "a spreadsheet must not compute it"
    assert second["file"] == "coffee.jpg"
    assert (second["index"], second["label"]) == ("967", "espresso")
    assert float(second["probability"]) == best["probability"]
    assert float(second["strength"]) == best["strength"]
    assert (second["method"], second["layer"]) == ("gradcam", "_conv_head")
    assert (second["model"], second["version"], second["weights"]) == tuple(model.values())
    assert third["file"] == "bad.jpg"
    assert "not an image" in third["error"]


def test_exporting_all_answers(lens: Lens) -> None:
    explain_all(lens)
    images = json.loads(exported(lens, "Save all answers (JSON)").read_text())["images"]
    assert [image["file"] for image in images] == NAMES
    assert images[1]["answers"][0]["response"] == lens.response(FILES[1], explain=5)


def test_exporting_a_report(open_page: Callable[..., Lens], lens: Lens, tmp_path: Path) -> None:
    explain_all(lens)
    path = tmp_path / "saved.html"
    path.write_bytes(exported(lens, "Save as report (HTML)").read_bytes())
    report = open_page(path.as_uri())
    report.page.wait_for_function("() => [...document.querySelectorAll('.card canvas')].every(({width}) => width > 0)")
    assert report.page.locator(".card > h2").all_inner_texts() == NAMES
    assert report.page.locator(".card .prediction").nth(1).inner_text().startswith("Predicted: espresso")
    assert report.pixels(1).shape == (320, 480, 3)


def test_an_exported_report_has_the_map_of_the_expected_class(
    open_page: Callable[..., Lens], lens: Lens, tmp_path: Path
) -> None:
    explain_all(lens)
    labels = tmp_path / "labels.csv"
    labels.write_text("rocket.jpg,teapot\n")
    lens.page.set_input_files("#expected-file", labels)
    lens.wait_for("rocket.jpg")
    path = tmp_path / "saved.html"
    path.write_bytes(exported(lens, "Save as report (HTML)").read_bytes())
    card = open_page(path.as_uri()).page.locator(".card").first
    assert card.locator(".class-name").all_inner_texts() == ["drilling platform", "teapot"]


def test_a_printed_record(lens: Lens) -> None:
    lens.explain(FILES[0])
    lens.page.evaluate("() => { window.printed = 0; window.print = () => { window.printed += 1; }; }")
    lens.page.get_by_role("button", name="Print").click()
    assert lens.page.evaluate("window.printed") == 1

    lens.page.emulate_media(media="print")

    answer = lens.response(FILES[0])
    record = lens.page.locator("#record").inner_text()
    weights = answer["model"]["weights"]
    for words in ("chelsea.jpg", "Egyptian cat", "82.1%", "gradcam", "_conv_head", weights, "not stated"):
        assert words in record
    assert re.search(r"\b20\d\d\b", record), "the date"
    assert lens.page.locator(".stage canvas").first.is_visible()
    assert lens.page.locator(".legend").first.is_visible()
    for hidden in (".intake", ".panel", ".display", ".choices", "#session"):
        assert lens.page.locator(hidden).first.is_hidden()
    assert lens.page.pdf()[:5] == b"%PDF-"


def test_files_that_are_opened_before_the_page_knows_its_models(open_page: Callable[..., Lens]) -> None:
    lens = open_page()
    held: list[Any] = []

    def keep(route: Any) -> None:
        held.append(route)

    lens.page.route("**/api/overview", keep)
    lens.page.evaluate("location.reload()")
    while not held:
        lens.page.wait_for_timeout(20)
    lens.choose(*FILES)
    for route in held:
        route.continue_()
    lens.wait_for("chelsea.jpg")
    lens.wait_for_all()
    assert lens.title() == "Egyptian cat"
    assert dict(lens.strip()) == verdicts(lens)
