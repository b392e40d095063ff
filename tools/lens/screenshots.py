"""Takes the pictures of the page in `docs/`: of a real browser, with answers of a real TorchServe.

Run by `make lens-screenshots`, which installs what it needs.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

from gradcam.network.architecture import EFFICIENTNET_LITE0
from tools.archive.build import Build, build_if_needed
from tools.client import client as predict
from tools.lens import runner as open_lens
from tools.paths import ROOT
from tools.ports import PURPOSES
from tools.server.port_check import free_port
from tools.server.server import Server

DOCS = ROOT / "docs"
EXAMPLES = ROOT / "examples"
QUALITY = 82
DESKTOP = {"viewport": {"width": 1280, "height": 860}, "locale": "en-GB"}
PHONE = {"viewport": {"width": 390, "height": 844}, "locale": "de-DE", "has_touch": True, "is_mobile": True}
TIMEOUT = 60_000


def open_page(browser: Browser, url: str, **context: Any) -> Page:
    """Opens the page in a browser that has seen nothing yet."""
    page = browser.new_context(**context).new_page()
    page.set_default_timeout(TIMEOUT)
    page.goto(url)
    return page


def explain(page: Page, name: str) -> None:
    """Has a picture explained."""
    page.set_input_files("#file", EXAMPLES / name)
    page.wait_for_selector("#classes .class")
    settle(page)


def settle(page: Page) -> None:
    """Waits until nothing is under way."""
    page.wait_for_function("() => !document.body.classList.contains('busy')")


def save(page: Page, name: str) -> None:
    """Writes what is in the window."""
    path = DOCS / f"{name}.jpg"
    page.screenshot(path=path, type="jpeg", quality=QUALITY)
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1000:.0f} kB")


def take(browser: Browser, url: str) -> None:
    """Takes the pictures of the page."""
    page = open_page(browser, url, **DESKTOP)
    explain(page, "coffee.jpg")
    page.locator("#compare").click()
    page.get_by_role("radio", name="coffee mug").check()
    page.locator(".view").nth(1).locator("canvas").hover(position={"x": 150, "y": 150})
    save(page, "lens")

    page = open_page(browser, url, **DESKTOP, color_scheme="dark")
    page.wait_for_selector("#samples img")
    explain(page, "chelsea.jpg")
    page.select_option("#colormap", "inferno")
    page.locator("#threshold").fill("0.4")
    page.locator("#alpha").fill("0.55")
    page.evaluate("() => { document.activeElement.blur(); scrollTo(0, 0); }")
    save(page, "lens-dark")

    page = open_page(browser, url, **PHONE)
    explain(page, "rocket.jpg")
    save(page, "lens-phone")


def take_report(browser: Browser, torchserve: str) -> None:
    """Takes the picture of a report on the examples."""
    with TemporaryDirectory() as folder:
        report = Path(folder) / "report.html"
        arguments = ["--url", torchserve, "--model", EFFICIENTNET_LITE0, "--output", folder, "--report", str(report)]
        predict.main([os.path.relpath(EXAMPLES), *arguments])
        page = open_page(browser, report.as_uri(), **DESKTOP)
        page.wait_for_function("() => [...document.querySelectorAll('canvas')].every((canvas) => canvas.width > 0)")
        save(page, "lens-report")


def main() -> int:
    """Runs the command and returns its exit status."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    archive = build_if_needed(Build(EFFICIENTNET_LITE0))
    port = free_port()
    page_port = port + len(PURPOSES)
    with (
        Server([archive], port) as server,
        open_lens.page(page_port, port),
        sync_playwright() as playwright,
        # Chromium's own sandbox does not work for root, in a container.
        playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"]) as browser,
    ):
        take(browser, f"http://127.0.0.1:{page_port}/")
        take_report(browser, server.inference_url)
    return 0
