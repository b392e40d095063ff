"""What goes wrong: bad files, a server that refuses, or is gone and comes back. What must not: memory, waiting."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image

from tests.support.lens_page import EXAMPLES, Lens
from tools.lens import runner as open_lens
from tools.server.port_check import free_port
from tools.server.processes import command_line

CHELSEA = EXAMPLES / "chelsea.jpg"
PICTURES = 50
WARM_UP = 10
MEGABYTE = 2**20

Open = Callable[..., Lens]


def trouble(lens: Lens) -> tuple[str, str]:
    lens.page.wait_for_selector("#trouble:not([hidden])")
    return lens.page.locator("#trouble-title").inner_text(), lens.page.locator("#trouble-text").inner_text()


def test_a_bad_file_and_then_a_good_one(lens: Lens, tmp_path: Path) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(CHELSEA.read_bytes()[:3000])

    lens.choose(bad)
    title, said = trouble(lens)
    assert title == "This cannot be explained"
    assert said.startswith("the picture is truncated or corrupt")
    assert lens.page.locator("#workbench").is_hidden()

    lens.explain(CHELSEA)
    assert lens.page.locator("#trouble").is_hidden()
    assert lens.title() == "Egyptian cat"


def test_what_is_no_picture(lens: Lens, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    file.write_text("<h1>no</h1>")
    lens.drop(file)
    assert trouble(lens)[1] == "these 11 bytes are not a picture; send JPEG, PNG, WebP, BMP, GIF or TIFF"


def test_too_large_a_file_is_not_sent(lens: Lens, tmp_path: Path) -> None:
    file = tmp_path / "large.jpg"
    with file.open("wb") as written:
        written.truncate(34 * MEGABYTE)
    lens.choose(file)
    assert trouble(lens)[1] == "large.jpg has 34.0 MB; the limit is 33.0 MB."
    assert lens.page.locator("#again").is_hidden()
    assert lens.predictions == []


def test_a_layer_that_cannot_be_explained(lens: Lens) -> None:
    lens.explain(CHELSEA)
    before = lens.pixels()

    lens.page.select_option("#layer", "_fc")

    assert "_fc" in trouble(lens)[1]
    assert lens.page.locator("#layer").input_value() == ""
    assert (lens.pixels() == before).all()
    lens.pick("tiger cat")
    assert lens.page.locator("#trouble").is_hidden()


def test_the_last_picture_counts(lens: Lens) -> None:
    """Of pictures that come faster than answers, the last one is shown."""
    for name in ("chelsea.jpg", "rocket.jpg", "coffee.jpg"):
        lens.choose(EXAMPLES / name)
    lens.wait_for("coffee.jpg")
    lens.page.wait_for_timeout(1500)
    assert lens.title() == "espresso"
    assert lens.pixels().shape == (400, 600, 3)


# ----------------------------------------------------------------------------- a server that goes away


def test_the_server_is_gone_and_comes_back(lens: Lens) -> None:
    lens.explain(CHELSEA)

    lens.server.stop()
    try:
        # What is there already still can be looked at.
        lens.pick("tiger cat")
        assert lens.title() == "tiger cat"
        lens.choose(EXAMPLES / "coffee.jpg")
        title, said = trouble(lens)
        assert title.startswith("The server does not answer")
        assert said == "TorchServe does not answer: is it running?"
    finally:
        lens.server.start()
        lens.server.wait_until_ready()

    lens.wait_for("coffee.jpg")
    assert lens.title() == "espresso"
    assert lens.page.locator("#trouble").is_hidden()


def test_the_page_is_opened_while_there_is_no_server(open_page: Open) -> None:
    page_port = free_port()
    with open_lens.page(page_port, free_port()):
        lens = open_page(f"http://127.0.0.1:{page_port}/")
        assert trouble(lens)[1] == "TorchServe does not answer: is it running?"


# ----------------------------------------------------------------------------- memory, and waiting


def used(session: Any) -> dict[str, float]:
    """What the page holds, after the browser has cleaned up."""
    session.send("HeapProfiler.collectGarbage")
    said = session.send("Performance.getMetrics")["metrics"]
    return {entry["name"]: entry["value"] for entry in said}


def resident() -> int:
    """Megabytes of the browser's processes that show pages; workers, decoded pictures and canvases are in there."""
    renderers = [
        process for process in psutil.Process().children(recursive=True) if "--type=renderer" in command_line(process)
    ]
    return sum(process.memory_info().rss for process in renderers) // MEGABYTE


def test_fifty_pictures_one_after_the_other(lens: Lens, tmp_path: Path) -> None:
    session = lens.page.context.new_cdp_session(lens.page)
    session.send("Performance.enable")
    source = np.asarray(Image.open(CHELSEA).resize((1200, 800)))
    seen = []
    for number in range(PICTURES):
        path = tmp_path / f"{number}.jpg"
        Image.fromarray(np.roll(source, 20 * number, axis=1)).save(path)
        lens.explain(path)
        if number >= WARM_UP and number % 10 == 9:
            seen.append({**used(session), "resident": resident()})

    print([{name: entry[name] for name in ("JSHeapUsedSize", "Nodes", "resident")} for entry in seen])
    first, last = seen[0], seen[-1]
    # A picture has 3.8 MB of pixels; 30 of them that stay would be 115 MB.
    assert last["JSHeapUsedSize"] - first["JSHeapUsedSize"] < MEGABYTE
    assert last["ArrayBufferContents"] <= first["ArrayBufferContents"]
    assert last["Nodes"] <= first["Nodes"] + 50
    assert last["JSEventListeners"] <= first["JSEventListeners"] + 50
    assert last["Documents"] == first["Documents"]
    assert last["resident"] - first["resident"] < 30


WATCH = """() => {
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


def test_a_big_picture_does_not_freeze_the_page(lens: Lens, tmp_path: Path) -> None:
    path = tmp_path / "big.jpg"
    Image.open(CHELSEA).resize((7500, 5000)).save(path, quality=80)
    lens.explain(CHELSEA)  # so that all code is compiled

    lens.page.evaluate(WATCH)
    lens.explain(path)
    longest = lens.page.evaluate("window.longest")

    print(f"37 million pixels: the page stood still for {longest:.0f} ms at most")
    # Decoding alone takes longer than that.
    assert longest < 400
    assert lens.pixels().shape == (853, 1280, 3)
