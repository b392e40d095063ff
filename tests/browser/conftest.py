"""A real TorchServe with EfficientNet-Lite0, the page's server in front of it, and a real Chromium."""

from __future__ import annotations

import importlib.util
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests.support.lens_page import EXAMPLES, Lens
from tools.archive import build as build_mar
from tools.archive.build import Build
from tools.lens import runner as open_lens
from tools.server.port_check import free_port
from tools.server.server import Server

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
HERE = Path(__file__).parent
# Of each action, in milliseconds; the machine may be busy.
TIMEOUT = 20_000
# The colors of the server's overlay, unless a test has chosen others.
JET = """try {
  if (!localStorage.getItem("lens.look")) localStorage.setItem("lens.look", '{"colormap": "jet"}');
} catch {}"""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    requested = any(Path(str(argument).split("::")[0]).resolve().is_relative_to(HERE) for argument in config.args)
    if reason := skip_reason(requested):
        for item in items:
            if item.path.is_relative_to(HERE):
                item.add_marker(pytest.mark.skip(reason=reason))


def skip_reason(requested: bool) -> str | None:
    if not requested:
        return "`make lens-test` runs these in a browser"
    if importlib.util.find_spec("playwright") is None or CHROMIUM is None:
        return "Playwright or Chromium is missing; `make lens-test` installs them"
    return None


@pytest.fixture
def png(tmp_path: Path) -> Path:
    """A lossless image, so that browser and server decode the same pixels."""
    path = tmp_path / "chelsea.png"
    Image.open(EXAMPLES / "chelsea.jpg").save(path)
    return path


@pytest.fixture(scope="session")
def torchserve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serve the network twice: `efficientnet_lite0` sees the whole image, `middle` only its center."""
    store = tmp_path_factory.mktemp("store")
    whole = build_mar.build(Build("efficientnet_lite0", engine="eager", output=store))
    crop = build_mar.build(Build("efficientnet_lite0", engine="eager", transform="crop", name="middle", output=store))
    with Server([crop, whole], free_port(), tmp_path_factory.mktemp("logs")) as server:
        yield server


@pytest.fixture(scope="session")
def url(torchserve: Server) -> Iterator[str]:
    """URL of the page."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with open_lens.page(port, int(torchserve.inference_url.rsplit(":", 1)[1])):
        yield f"http://127.0.0.1:{port}/"


@pytest.fixture(scope="session")
def browser() -> Iterator[object]:
    from playwright.sync_api import sync_playwright  # noqa: PLC0415, installed for these tests only

    with sync_playwright() as playwright:
        # Chromium's own sandbox does not work for root, in a container.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: object, torchserve: Server, url: str) -> Iterator[Callable[..., Lens]]:
    """Open the page in a new browser context; fail on an error in its console."""
    opened: list[Lens] = []

    def open_page(address: str = "", jet: bool = True, **context: object) -> Lens:
        settings = {"viewport": {"width": 1360, "height": 940}, "locale": "en-GB", "accept_downloads": True, **context}
        page = browser.new_context(**settings).new_page()  # type: ignore[attr-defined]
        page.set_default_timeout(TIMEOUT)
        if jet:
            page.add_init_script(JET)
        lens = Lens(page, torchserve)
        opened.append(lens)
        page.goto(address or url)
        if not address:
            page.wait_for_selector("#samples img")
        return lens

    yield open_page
    for lens in opened:
        errors = lens.errors
        lens.page.context.close()
        assert errors == []


@pytest.fixture
def lens(open_page: Callable[..., Lens]) -> Lens:
    return open_page()
