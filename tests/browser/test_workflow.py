"""From an image to its explanation, in a real browser and with a real network."""

from __future__ import annotations

import json
import math
import re
import subprocess
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.support.encoding import decoded
from tests.support.lens_page import EXAMPLES, MODEL, Lens, difference

CHELSEA = EXAMPLES / "chelsea.jpg"
CAT, TIGER = 285, 282
MAX_DIFFERENCE = 2

Open = Callable[..., Lens]


def percentage(probability: float) -> str:
    return "< 0.1%" if probability < 0.001 else f"{100 * probability:.1f}%"


# ----------------------------------------------------------------------------- opening an image


@pytest.mark.parametrize("way", ["drop", "paste", "choose", "photograph", "sample"])
def test_an_image_is_explained(lens: Lens, way: str) -> None:
    expected = lens.response(CHELSEA, explain=5)

    if way == "photograph":
        assert lens.page.get_attribute("#camera", "capture") == "environment"
        lens.page.set_input_files("#camera", CHELSEA)
    elif way == "sample":
        lens.page.get_by_role("button", name="Sample image chelsea.jpg").click()
    else:
        getattr(lens, way)(CHELSEA)
    lens.wait_for("chelsea.jpg")

    assert lens.classes() == [entry["label"] for entry in expected["predictions"]]
    assert lens.probabilities() == [percentage(entry["probability"]) for entry in expected["predictions"]]
    assert lens.title() == "Egyptian cat"
    assert lens.fact("peak") == "at {}, {}".format(*expected["explanations"][0]["peak"])
    assert lens.fact("region") == "the whole image"
    # JPEG decoders differ by some levels; the map is the same.
    assert np.abs(lens.pixels().astype(int) - lens.overlay(CHELSEA, CAT)).mean() < 1
    assert len(lens.predictions) == 1


def test_bars_are_as_long_as_the_probabilities(lens: Lens) -> None:
    lens.explain(CHELSEA)

    lengths = lens.page.locator("#classes .bar").evaluate_all(
        "(bars) => bars.map((bar) => bar.firstChild.getBoundingClientRect().width / bar.getBoundingClientRect().width)"
    )

    for length, entry in zip(lengths, lens.response(CHELSEA)["predictions"], strict=True):
        assert length == pytest.approx(entry["probability"], abs=0.005)


def test_several_images_in_turn(lens: Lens) -> None:
    best = {"chelsea.jpg": "Egyptian cat", "coffee.jpg": "espresso", "rocket.jpg": "drilling platform"}
    for name, label in best.items():
        lens.explain(EXAMPLES / name)
        assert lens.title() == label
        assert lens.pixels().shape[:2] == decoded((EXAMPLES / name).read_bytes()).shape[:2]


# ----------------------------------------------------------------------------- pixels


@pytest.mark.parametrize("model", [MODEL, "middle"])
def test_the_canvas_equals_the_servers_overlay(lens: Lens, png: Path, model: str) -> None:
    lens.page.select_option("#model", model)
    lens.settle()
    lens.explain(png)

    for entry in lens.response(png, model)["predictions"]:
        lens.pick(entry["label"])
        assert lens.title() == entry["label"]
        assert difference(lens.pixels(), lens.overlay(png, entry["index"], model)) <= MAX_DIFFERENCE


@pytest.mark.parametrize("colormap", ["jet", "cividis", "viridis", "inferno", "gray"])
@pytest.mark.parametrize("alpha", [0.25, 0.9])
def test_all_color_maps(lens: Lens, png: Path, colormap: str, alpha: float) -> None:
    lens.explain(png)
    lens.page.select_option("#colormap", colormap)
    set_range(lens, "alpha", alpha)

    server = lens.overlay(png, CAT, colormap=colormap, alpha=alpha)

    # The more opaque the colors, the larger is one level of the map: up to 4 gray levels in jet.
    assert difference(lens.pixels(), server) <= max(MAX_DIFFERENCE, math.ceil(4 * alpha))
    assert np.abs(lens.pixels().astype(int) - server).mean() < 0.1


def set_range(lens: Lens, name: str, value: float) -> None:
    lens.page.locator(f"#{name}").fill(str(value))
    lens.page.evaluate("() => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)))")


def test_opacity_and_threshold_without_a_request(lens: Lens, png: Path) -> None:
    image = decoded(png.read_bytes())
    lens.explain(png)
    before = len(lens.urls)

    set_range(lens, "alpha", 0)
    assert difference(lens.pixels(), image) == 0

    set_range(lens, "alpha", 0.4)
    set_range(lens, "threshold", 0.5)
    grid = np.array(lens.response(png)["explanations"][0]["heatmap"], np.float32)
    resized = cv2.resize(grid, image.shape[1::-1])
    drawn = lens.pixels()
    assert (drawn[resized < 0.49] == image[resized < 0.49]).all()
    above = resized > 0.51
    assert difference(drawn[above], lens.overlay(png, CAT)[above]) <= MAX_DIFFERENCE
    assert lens.fact("colored") == f"{round(100 * (resized >= 0.5).mean())}% of the map"
    assert len(lens.urls) == before


def test_an_image_with_exif_orientation(lens: Lens, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "rotated.jpg"
    Image.open(CHELSEA).save(path, exif=exif, quality=95)

    lens.explain(path)

    assert lens.pixels().shape == (451, 300, 3)
    best = lens.response(path)["predictions"][0]["index"]
    assert np.abs(lens.pixels().astype(int) - lens.overlay(path, best)).mean() < 1


@pytest.mark.parametrize("kind", ["tiff", "transparent", "deep"])
def test_the_server_decodes_what_the_browser_cannot(lens: Lens, tmp_path: Path, kind: str) -> None:
    pixels = np.array(Image.open(CHELSEA))
    path = tmp_path / f"{kind}.png"
    if kind == "tiff":
        path = tmp_path / "a.tiff"
        Image.fromarray(pixels).save(path)
    elif kind == "transparent":
        alpha = np.full((*pixels.shape[:2], 1), 255, np.uint8)
        alpha[:100] = 0
        Image.fromarray(np.concatenate([pixels, alpha], axis=2)).save(path)
    else:
        Image.fromarray(pixels[:, :, 0].astype(np.uint16) * 257).save(path)

    lens.explain(path)

    best = lens.response(path)["predictions"][0]["index"]
    assert difference(lens.pixels(), lens.overlay(path, best)) <= MAX_DIFFERENCE


# ----------------------------------------------------------------------------- classes


def test_choosing_a_class_needs_no_request(lens: Lens) -> None:
    lens.explain(CHELSEA)
    lens.page.get_by_role("radio", name="Egyptian cat").focus()

    for label in ("tiger cat", "tabby"):
        lens.page.keyboard.press("ArrowDown")
        assert lens.title() == label
        assert lens.page.evaluate("document.activeElement.checked")

    assert len(lens.predictions) == 1


@pytest.mark.parametrize(
    ("typed", "label"), [("cowboy h", "cowboy hat"), ("515", "cowboy hat"), ("WINE B", "wine bottle")]
)
def test_searching_and_explaining_any_class(lens: Lens, typed: str, label: str) -> None:
    lens.explain(CHELSEA)

    lens.search(typed)
    assert lens.page.locator("#matches [role=option]").first.inner_text().startswith(label)
    lens.page.keyboard.press("Enter")
    lens.page.wait_for_function("(label) => document.querySelector('.class-name').textContent === label", arg=label)

    assert lens.classes()[-1] == label
    index = int(next(entry["index"] for entry in lens.response(CHELSEA, targets=label)["explanations"]))
    assert np.abs(lens.pixels().astype(int) - lens.overlay(CHELSEA, index)).mean() < 1
    assert len(lens.predictions) == 2


def test_the_search_with_arrow_keys_and_escape(lens: Lens) -> None:
    lens.explain(CHELSEA)
    box = lens.page.get_by_role("combobox", name="Explain any other class")

    lens.search("cat")
    lens.page.wait_for_selector("#matches [role=option]")
    labels = lens.page.locator("#matches li").all_inner_texts()
    assert all("cat" in label for label in labels)
    assert labels[0].startswith("tiger cat"), "whole words come before parts such as catamaran"
    box.press("ArrowDown")
    assert box.get_attribute("aria-activedescendant") == lens.page.locator("#matches li").nth(1).get_attribute("id")
    box.press("Escape")
    assert lens.page.locator("#matches").is_hidden()
    lens.search("no such class")
    assert lens.page.locator("#search-status").inner_text() == "No matching class"


def test_a_class_without_evidence(lens: Lens) -> None:
    lens.explain(CHELSEA)
    explanations = lens.response(CHELSEA, targets=",".join(map(str, range(900, 1000))))["explanations"]
    unsupported = next(entry for entry in explanations if not entry["evidence"])

    lens.search(str(unsupported["index"]))
    lens.page.keyboard.press("Enter")
    lens.page.wait_for_selector(".no-evidence:visible")

    assert lens.page.locator(".no-evidence").first.inner_text() == "No evidence for this class in this image."
    assert lens.page.locator(".legend").first.is_hidden()
    assert lens.fact("strength") == "0"
    assert lens.title() == unsupported["label"]
    assert lens.page.locator("#save-overlay").is_disabled()
    assert lens.page.locator(".stage canvas").first.get_attribute("aria-label") == (
        f"chelsea.jpg: no evidence for {unsupported['label']}."
    )


# ----------------------------------------------------------------------------- reading values


def test_the_value_at_the_pointer(lens: Lens, png: Path) -> None:
    lens.explain(png)
    grid = np.array(lens.response(png)["explanations"][0]["heatmap"], np.float32)
    resized = cv2.resize(grid, (451, 300))
    box = lens.page.locator(".stage canvas").first.bounding_box()

    for across, down in ((0.1, 0.2), (0.5, 0.5), (0.9, 0.7)):
        lens.page.mouse.move(box["x"] + across * box["width"], box["y"] + down * box["height"])
        value, x, y = map(float, re.fullmatch(r"([\d.]+) at (\d+), (\d+)", lens.fact("pointer")).groups())  # type: ignore[union-attr]
        assert [x, y] == pytest.approx([across * 451, down * 300], abs=1.5)
        assert value == pytest.approx(resized[int(y), int(x)], abs=0.006)
    lens.page.mouse.move(0, 0)
    assert lens.fact("pointer").startswith("Point at the image")


def test_values_with_the_arrow_keys(lens: Lens) -> None:
    lens.explain(CHELSEA)
    lens.page.locator(".stage canvas").first.focus()

    lens.page.keyboard.press("ArrowRight")
    assert lens.fact("pointer").endswith("at 225, 150")
    lens.page.keyboard.press("ArrowDown")
    lens.page.keyboard.press("ArrowDown")
    assert lens.fact("pointer").endswith("at 225, 165")
    lens.page.keyboard.press("Escape")
    assert lens.fact("pointer").startswith("Point at the image")


def test_the_covered_region(lens: Lens) -> None:
    lens.page.select_option("#model", "middle")
    lens.settle()
    lens.explain(CHELSEA)
    left, top, right, bottom = lens.response(CHELSEA, "middle")["image"]["region"]

    assert lens.fact("region").startswith(f"{left}, {top} to {right}, {bottom}")
    stage, mark = (lens.page.locator(name).first.bounding_box() for name in (".stage", ".region-mark"))
    assert (mark["x"] - stage["x"]) / stage["width"] == pytest.approx(left / 451, abs=0.01)
    assert mark["width"] / stage["width"] == pytest.approx((right - left) / 451, abs=0.01)
    lens.page.mouse.move(stage["x"] + 3, stage["y"] + 3)
    assert lens.fact("pointer") == "outside the map"


# ----------------------------------------------------------------------------- comparing two


def test_two_classes_side_by_side(lens: Lens, png: Path) -> None:
    lens.explain(png)
    lens.page.get_by_role("button", name="Compare two").click()

    assert (lens.title(0), lens.title(1)) == ("Egyptian cat", "tiger cat")
    lens.pick("tabby")
    assert (lens.title(0), lens.title(1)) == ("Egyptian cat", "tabby")
    lens.page.locator(".view").nth(0).click()
    lens.pick("lynx")

    assert (lens.title(0), lens.title(1)) == ("lynx", "tabby")
    # Both use the same display settings; each equals the server's overlay.
    assert difference(lens.pixels(0), lens.overlay(png, 287)) <= MAX_DIFFERENCE
    assert difference(lens.pixels(1), lens.overlay(png, 281)) <= MAX_DIFFERENCE
    assert len(lens.predictions) == 1


def test_two_methods_side_by_side(lens: Lens, png: Path) -> None:
    lens.explain(png)
    lens.page.get_by_role("button", name="Compare two").click()
    lens.pick("Egyptian cat")
    lens.page.select_option("#method", "layercam")
    lens.settle()

    assert difference(lens.pixels(0), lens.overlay(png, CAT)) <= MAX_DIFFERENCE
    assert difference(lens.pixels(1), lens.overlay(png, CAT, method="layercam")) <= MAX_DIFFERENCE
    lens.explain(EXAMPLES / "coffee.jpg")
    assert (lens.title(0), lens.title(1)) == ("espresso", "espresso")


def test_methods_and_layers_of_the_server(lens: Lens, png: Path) -> None:
    lens.explain(png)
    methods = lens.page.locator("#method option").all_inner_texts()
    assert methods[0] == "gradcam (default)"
    assert {"layercam", "counterfactual"} <= set(methods)
    assert "scorecam" not in methods, "the archive does not allow it"
    assert "_blocks.10" in lens.page.locator("#layer option").all_inner_texts()

    lens.page.select_option("#layer", "_blocks.10")
    lens.settle()

    assert difference(lens.pixels(), lens.overlay(png, CAT, layer="_blocks.10")) <= MAX_DIFFERENCE
    # The response contains all classes of the list.
    before = len(lens.predictions)
    lens.pick("tiger cat")
    assert difference(lens.pixels(), lens.overlay(png, TIGER, layer="_blocks.10")) <= MAX_DIFFERENCE
    assert len(lens.predictions) == before


# ----------------------------------------------------------------------------- saving


def test_the_overlay_is_saved_at_full_size(lens: Lens, tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    Image.open(CHELSEA).resize((2400, 1600)).save(path, compress_level=1)
    lens.explain(path)
    assert max(lens.pixels().shape) == 1280

    with lens.page.expect_download() as download:
        lens.page.get_by_role("button", name="Image with colors (PNG)").click()

    best = lens.response(path)["predictions"][0]
    assert download.value.suggested_filename == f"large.{best['index']}-{best['label'].lower().replace(' ', '-')}.png"
    saved = decoded(Path(download.value.path()).read_bytes())
    assert difference(saved[:1600], lens.overlay(path, best["index"])) <= MAX_DIFFERENCE
    caption = saved[1600:]
    levels = np.arange(256, dtype=np.uint8)
    colors = cv2.applyColorMap(levels, cv2.COLORMAP_JET)[:, 0, ::-1]
    assert set(map(tuple, colors)) <= set(map(tuple, caption.reshape(-1, 3))), "the caption has the color scale"


def test_a_saved_image_says_what_made_it(lens: Lens) -> None:
    lens.explain(CHELSEA)
    answer = lens.response(CHELSEA)
    best, model = answer["explanations"][0], answer["model"]
    before = datetime.now(timezone.utc)

    with lens.page.expect_download() as download:
        lens.page.get_by_role("button", name="Image with colors (PNG)").click()

    saved = Image.open(download.value.path())
    saved.load()
    texts = dict(saved.text)  # type: ignore[attr-defined]
    made = datetime.fromisoformat(texts.pop("time").replace("Z", "+00:00"))
    assert abs((made - before).total_seconds()) < 60
    assert texts == {
        "model": f"{MODEL} 1.0",
        "weights": model["weights"],
        "class": "285 Egyptian cat",
        "probability": str(best["probability"]),
        "strength": str(best["strength"]),
        "method": "gradcam",
        "layer": answer["layer"],
        "file": "chelsea.jpg",
    }


def test_a_narrow_image_has_a_readable_caption(lens: Lens, tmp_path: Path) -> None:
    path = tmp_path / "narrow.png"
    Image.open(CHELSEA).resize((60, 200)).save(path)
    lens.explain(path)

    with lens.page.expect_download() as download:
        lens.page.get_by_role("button", name="Image with colors (PNG)").click()

    saved = decoded(Path(download.value.path()).read_bytes())
    best = lens.response(path)["predictions"][0]["index"]
    assert difference(saved[:200, :60], lens.overlay(path, best)) <= MAX_DIFFERENCE
    assert saved.shape[1] == 480
    caption = saved[200:].astype(int)
    ink = (caption.max(axis=2) < 90).any(axis=1)
    lines = np.flatnonzero(np.diff(np.concatenate([[0], ink, [0]])) == 1)
    assert len(lines) >= 5, "a scale and a line each about class, method, model, and file"


@pytest.mark.parametrize("name", ["chelsea.png", "a b'c;d\"e.png"])
def test_the_command_returns_the_saved_response(lens: Lens, png: Path, name: str) -> None:
    file = png.rename(png.with_name(name))
    lens.explain(file)
    lens.page.select_option("#method", "hirescam")
    lens.settle()
    lens.page.get_by_text("The same request on the command line").click()

    with lens.page.expect_download() as download:
        lens.page.get_by_role("button", name="Response (JSON)").click()
    saved = json.loads(Path(download.value.path()).read_text())
    command = lens.page.locator("#command").inner_text()
    completed = subprocess.run(
        ["sh", "-c", command], cwd=file.parent, capture_output=True, text=True, check=True, timeout=60
    )

    request = saved.pop("request")
    assert request["file"] == name
    assert request["class"] == {"index": CAT, "label": "Egyptian cat"}
    assert request["options"]["method"] == "hirescam"
    datetime.fromisoformat(request["time"].replace("Z", "+00:00"))
    assert saved["method"] == "hirescam"
    assert saved["model"]["name"] == MODEL
    assert json.loads(completed.stdout) == saved


def test_copying_the_command(open_page: Open) -> None:
    lens = open_page(permissions=["clipboard-read", "clipboard-write"])
    lens.explain(CHELSEA)
    lens.page.get_by_text("The same request on the command line").click()
    lens.page.get_by_role("button", name="Copy").click()
    lens.page.wait_for_function("() => document.querySelector('#status').textContent === 'Copied'")
    assert lens.page.evaluate("() => navigator.clipboard.readText()") == lens.page.locator("#command").inner_text()
