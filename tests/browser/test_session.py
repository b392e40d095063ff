"""Several images at once: all are explained, and the strip leads from one to the next."""

from __future__ import annotations

from pathlib import Path

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
