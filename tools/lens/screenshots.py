"""The command `scripts/screenshots.py`: the page's images in `docs/`, from a real browser and TorchServe.

`make lens-screenshots` runs it after installing what it needs.
"""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

from gradcam.network.architecture import EFFICIENTNET_LITE0
from tools.archive.build import Build, build_if_needed
from tools.client import predict
from tools.client.client import Client
from tools.lens import example_figure, runner
from tools.paths import DOCS, EXAMPLES, ROOT
from tools.ports import HOST, PURPOSES
from tools.server.port_check import free_port
from tools.server.server import Server

QUALITY = 82
DESKTOP = {"viewport": {"width": 1280, "height": 860}, "locale": "en-GB"}
PHONE = {"viewport": {"width": 390, "height": 844}, "locale": "de-DE", "has_touch": True, "is_mobile": True}
TIMEOUT = 60_000


def open_page(browser: Browser, url: str, **context: Any) -> Page:
    """Open the page in a fresh browser context."""
    page = browser.new_context(**context).new_page()
    page.set_default_timeout(TIMEOUT)
    page.goto(url)
    return page


def explain(page: Page, *names: str) -> None:
    """Explain example images; the first one is shown."""
    page.set_input_files("#file", [EXAMPLES / name for name in names])
    page.wait_for_selector("#classes .class")
    settle(page)
    page.wait_for_function(
        "() => [...document.querySelectorAll('.verdict')].every((each) => /%/.test(each.textContent))"
    )


def settle(page: Page) -> None:
    """Wait until the page is idle."""
    page.wait_for_function("() => !document.body.classList.contains('busy')")


def save(page: Page, name: str) -> None:
    """Write the window's content to `docs/`."""
    path = DOCS / f"{name}.jpg"
    page.screenshot(path=path, type="jpeg", quality=QUALITY)
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1000:.0f} kB")


def take(browser: Browser, url: str) -> None:
    """Take the screenshots of the page."""
    page = open_page(browser, url, **DESKTOP)
    explain(page, "coffee.jpg", "chelsea.jpg", "rocket.jpg")
    page.locator("#compare").click()
    page.get_by_role("radio", name="coffee mug").check()
    page.locator(".stage canvas").nth(1).hover(position={"x": 150, "y": 150})
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
    """Take the screenshot of a report on the examples."""
    with TemporaryDirectory() as folder:
        report = Path(folder) / "report.html"
        arguments = ["--url", torchserve, "--model", EFFICIENTNET_LITE0, "--output", folder, "--report", str(report)]
        predict.main([os.path.relpath(EXAMPLES), *arguments])
        page = open_page(browser, report.as_uri(), **DESKTOP)
        page.wait_for_function("() => [...document.querySelectorAll('canvas')].every((canvas) => canvas.width > 0)")
        save(page, "lens-report")


def write_example_figure(torchserve: str) -> None:
    """Write the image of the README."""
    with Client(torchserve, EFFICIENTNET_LITE0) as client:
        panels = [example_figure.panel(client, EXAMPLES / name) for name in example_figure.EXAMPLES]
    path = DOCS / "explained.jpg"
    example_figure.compose(panels).save(path, quality=QUALITY)
    print(f"{path.relative_to(ROOT)}: {', '.join(panel.title for panel in panels)}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    description = "Take the screenshots of the page in docs/, and write the README's image."
    argparse.ArgumentParser(description=description).parse_args(arguments)
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    archive = build_if_needed(Build(EFFICIENTNET_LITE0))
    port = free_port()
    page_port = port + len(PURPOSES)
    with (
        Server([archive], port) as server,
        runner.page(page_port, port),
        sync_playwright() as playwright,
        # Chromium's own sandbox does not work for root, in a container.
        playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"]) as browser,
    ):
        write_example_figure(server.inference_url)
        take(browser, f"http://{HOST}:{page_port}/")
        take_report(browser, server.inference_url)
    return 0
