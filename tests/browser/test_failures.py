"""Failures: bad files, rejected requests, a server that stops and restarts. Limits: memory, response of the page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image

from tests.support.lens_page import EXAMPLES, Lens
from tools.lens import runner as open_lens
from tools.server.port_check import free_port
from tools.server.processes import command_line

CHELSEA = EXAMPLES / "chelsea.jpg"
IMAGES = 200
# The strip shows up to 24 images.
WARM_UP = 30
KEPT_BYTES = 20_000
MEGABYTE = 2**20

Open = Callable[..., Lens]


def error_on(lens: Lens) -> tuple[str, str]:
    lens.page.wait_for_selector("#error:not([hidden])")
    return lens.page.locator("#error-title").inner_text(), lens.page.locator("#error-text").inner_text()


def test_a_good_file_after_a_bad_one(lens: Lens, tmp_path: Path) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(CHELSEA.read_bytes()[:3000])

    lens.choose(bad)
    title, message = error_on(lens)
    assert title == "bad.jpg cannot be explained"
    assert message.startswith("Image is truncated or corrupt")
    assert lens.page.locator("#workbench").is_hidden()

    lens.explain(CHELSEA)
    assert lens.page.locator("#error").is_hidden()
    assert lens.title() == "Egyptian cat"


def test_a_file_that_is_not_an_image(lens: Lens, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    file.write_text("<h1>no</h1>")
    lens.drop(file)
    assert error_on(lens)[1] == "File is not an image (11 bytes); send JPEG, PNG, WebP, BMP, GIF, or TIFF"


def test_a_file_beyond_the_limit_is_not_sent(lens: Lens, tmp_path: Path) -> None:
    file = tmp_path / "large.jpg"
    with file.open("wb") as written:
        written.truncate(34 * MEGABYTE)
    lens.choose(file)
    assert error_on(lens) == ("large.jpg cannot be explained", "It has 34.0 MB; the limit is 33.0 MB.")
    assert lens.page.locator("#retry").is_hidden()
    assert lens.predictions == []


@pytest.mark.parametrize("kind", ["text", "truncated", "large"])
def test_nothing_of_the_previous_result_stays_visible(lens: Lens, tmp_path: Path, kind: str) -> None:
    lens.explain(CHELSEA)
    lens.page.evaluate("scrollTo(0, document.body.scrollHeight)")
    bad = tmp_path / "other.jpg"
    bad.write_bytes({"text": b"hello", "truncated": CHELSEA.read_bytes()[:9000], "large": bytes(34 * MEGABYTE)}[kind])

    lens.choose(bad)

    assert error_on(lens)[0] == "other.jpg cannot be explained"
    lens.settle()
    assert lens.page.locator("#workbench").is_hidden()
    # In the strip each image has its own name and verdict.
    assert lens.strip() == [("chelsea.jpg", "Egyptian cat 82.1%"), ("other.jpg", "not explained")]
    visible = lens.page.locator("body").evaluate("(body) => (body.querySelector('#session').remove(), body.innerText)")
    assert "Egyptian cat" not in visible
    assert "chelsea" not in visible
    box = lens.page.locator("#error").bounding_box()
    scrolled = lens.page.evaluate("[scrollY, innerHeight]")
    assert box["y"] >= 0, f"the error is above the window, {scrolled}"
    assert box["y"] + box["height"] <= scrolled[1]
    assert lens.page.locator("#retry").is_hidden()
    assert lens.page.locator("#save-overlay").is_disabled()
    assert lens.page.locator("#save-json").is_disabled()


def test_a_model_that_rejects_the_image_shows_nothing_of_the_other_model(lens: Lens) -> None:
    lens.explain(CHELSEA)
    rejection = {"status": 400, "json": {"error": {"code": "invalid_option", "message": "no"}}}
    lens.page.route("**/predictions/middle", lambda route: route.fulfill(**rejection))

    lens.page.select_option("#model", "middle")

    assert error_on(lens) == ("chelsea.jpg cannot be explained", "no")
    assert lens.page.locator("#workbench").is_hidden()


def test_an_unusable_layer_is_reverted(lens: Lens) -> None:
    lens.explain(CHELSEA)
    before = lens.pixels()

    lens.page.select_option("#layer", "_fc")

    assert "_fc" in error_on(lens)[1]
    assert lens.page.locator("#layer").input_value() == ""
    assert (lens.pixels() == before).all()
    lens.pick("tiger cat")
    assert lens.page.locator("#error").is_hidden()


def test_the_last_image_is_shown(lens: Lens) -> None:
    """Several images are opened before the first response arrives."""
    for name in ("chelsea.jpg", "rocket.jpg", "coffee.jpg"):
        lens.choose(EXAMPLES / name)
    lens.wait_for("coffee.jpg")
    lens.page.wait_for_timeout(1500)
    assert lens.title() == "espresso"
    assert lens.pixels().shape == (400, 600, 3)


# ----------------------------------------------------------------------------- an unavailable server


def test_the_server_stops_and_restarts(lens: Lens) -> None:
    lens.explain(CHELSEA)

    lens.server.stop()
    try:
        # Explanations received earlier stay usable.
        lens.pick("tiger cat")
        assert lens.title() == "tiger cat"
        lens.choose(EXAMPLES / "coffee.jpg")
        title, message = error_on(lens)
        assert title.startswith("The server is not responding")
        assert message == "TorchServe does not respond; is it running?"
    finally:
        lens.server.start()
        lens.server.wait_until_ready()

    lens.wait_for("coffee.jpg")
    assert lens.title() == "espresso"
    assert lens.page.locator("#error").is_hidden()


def test_the_page_opens_without_a_server(open_page: Open) -> None:
    page_port = free_port()
    with open_lens.page(page_port, free_port()):
        lens = open_page(f"http://127.0.0.1:{page_port}/")
        assert error_on(lens)[1] == "TorchServe does not respond; is it running?"


# ----------------------------------------------------------------------------- memory and responsiveness


def used(session: Any) -> dict[str, float]:
    """Return the page's metrics after a garbage collection."""
    session.send("HeapProfiler.collectGarbage")
    metrics = session.send("Performance.getMetrics")["metrics"]
    return {entry["name"]: entry["value"] for entry in metrics}


def resident() -> int:
    """Return the resident megabytes of the browser's renderers, including workers, decoded images, and canvases."""
    renderers = [
        process for process in psutil.Process().children(recursive=True) if "--type=renderer" in command_line(process)
    ]
    return sum(process.memory_info().rss for process in renderers) // MEGABYTE


def test_memory_over_two_hundred_images(lens: Lens, tmp_path: Path) -> None:
    session = lens.page.context.new_cdp_session(lens.page)
    session.send("Performance.enable")
    source = np.asarray(Image.open(CHELSEA).resize((1200, 800)))
    samples = []
    for number in range(IMAGES):
        path = tmp_path / f"{number}.jpg"
        Image.fromarray(np.roll(source, 20 * number, axis=1)).save(path)
        lens.explain(path)
        if number >= WARM_UP and number % 10 == 9:
            samples.append({**used(session), "resident": resident(), "images": number + 1})

    print([{name: entry[name] for name in ("JSHeapUsedSize", "Nodes", "resident")} for entry in samples])
    first, last = samples[0], samples[-1]
    # The session keeps each image's answer, file handle and thumbnail, but not its 3.8 MB of pixels.
    kept = last["images"] - first["images"]
    assert last["JSHeapUsedSize"] - first["JSHeapUsedSize"] < kept * KEPT_BYTES
    assert last["ArrayBufferContents"] <= first["ArrayBufferContents"]
    assert last["Nodes"] <= first["Nodes"] + 50
    assert last["JSEventListeners"] <= first["JSEventListeners"] + 50
    assert last["Documents"] == first["Documents"]
    assert last["resident"] - first["resident"] < 100


MEASURE_PAUSES = """() => {
  window.longest = 0;
  let last = performance.now();
  const tick = () => {
    const now = performance.now();
    window.longest = Math.max(window.longest, now - last);
    last = now;
    setTimeout(tick, 5);
  };
  tick();
}"""


def test_a_large_image_does_not_freeze_the_page(lens: Lens, tmp_path: Path) -> None:
    path = tmp_path / "big.jpg"
    Image.open(CHELSEA).resize((7500, 5000)).save(path, quality=80)
    lens.explain(CHELSEA)  # compiles all code

    lens.page.evaluate(MEASURE_PAUSES)
    lens.explain(path)
    longest = lens.page.evaluate("window.longest")

    print(f"37 million pixels: longest pause {longest:.0f} ms")
    # Decoding alone takes longer.
    assert longest < 400
    assert lens.pixels().shape == (853, 1280, 3)
