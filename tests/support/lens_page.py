"""Page object of the page: a user's actions, and what the page shows."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tests.support import http_client
from tests.support.encoding import Pixels, decoded
from tools.paths import ROOT
from tools.server.server import Server

EXAMPLES = ROOT / "examples"
MODEL = "efficientnet_lite0"

# Creates a file as the browser does for a drop or a paste.
TRANSFER = """([name, content]) => {
  const bytes = Uint8Array.from(atob(content), (character) => character.charCodeAt(0));
  const transfer = new DataTransfer();
  transfer.items.add(new File([bytes], name));
  return transfer;
}"""
CANVAS = """(canvas) => {
  const { width, height } = canvas;
  const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
  let text = "";
  for (let at = 0; at < data.length; at += 32768) text += String.fromCharCode(...data.subarray(at, at + 32768));
  return [width, height, btoa(text)];
}"""


@dataclass
class Lens:
    page: Any
    server: Server
    errors: list[str] = field(default_factory=list)
    predictions: list[str] = field(default_factory=list)
    """URLs of requests for predictions."""
    urls: list[str] = field(default_factory=list)
    """URLs of all requests."""

    def __post_init__(self) -> None:
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", self._logged)
        self.page.on("request", self._requested)

    def _logged(self, message: Any) -> None:
        # The browser logs every error response; tests of errors check the page instead.
        if message.type == "error" and "Failed to load resource" not in message.text:
            self.errors.append(message.text)

    def _requested(self, request: Any) -> None:
        # The browser fetches the icon when it likes, such as after a change of the address.
        if request.url.endswith("/icon.svg"):
            return
        self.urls.append(request.url)
        if "/predictions/" in request.url:
            self.predictions.append(request.url)

    # ------------------------------------------------------------------------- actions

    def choose(self, *files: Path) -> None:
        self.page.set_input_files("#file", files)

    def drop(self, file: Path) -> None:
        self._transfer(file, "(transfer) => document.dispatchEvent(new DragEvent('drop', {dataTransfer: transfer}))")

    def paste(self, file: Path) -> None:
        paste = "(transfer) => document.dispatchEvent(new ClipboardEvent('paste', {clipboardData: transfer}))"
        self._transfer(file, paste)

    def _transfer(self, file: Path, event: str) -> None:
        content = base64.b64encode(file.read_bytes()).decode()
        self.page.evaluate_handle(TRANSFER, [file.name, content]).evaluate(event)

    def explain(self, file: Path) -> None:
        """Choose a file and wait until it is explained."""
        self.choose(file)
        self.wait_for(file.name)

    def wait_for(self, name: str) -> None:
        self.page.wait_for_function(
            "(text) => document.querySelector('#status').textContent === text", arg=f"{name} is explained"
        )

    def wait_for_all(self) -> None:
        """Wait until no image of the strip waits."""
        self.page.wait_for_function(
            "() => [...document.querySelectorAll('#strip .verdict')].every((each) => each.textContent !== 'waiting')"
        )

    def strip(self) -> list[tuple[str, str]]:
        """Return name and verdict of each image in the strip."""
        names, verdicts = (self.page.locator(f"#strip .{part}").all_inner_texts() for part in ("name", "verdict"))
        return list(zip(names, verdicts, strict=True))

    def hold(self) -> list[Any]:
        """Keep requests for predictions back; the returned list receives their routes."""
        held: list[Any] = []

        def keep(route: Any) -> None:
            held.append(route)

        self.page.route("**/predictions/**", keep)
        return held

    def settle(self) -> None:
        """Wait until the page is idle."""
        self.page.wait_for_function("() => !document.body.classList.contains('busy')")

    def pick(self, label: str) -> None:
        """Choose a class."""
        self.page.get_by_role("radio", name=label).check()
        self.settle()

    def search(self, text: str) -> None:
        self.page.fill("#search", text)

    # ------------------------------------------------------------------------- contents

    def classes(self) -> list[str]:
        return list(self.page.locator("#classes .label").all_inner_texts())

    def probabilities(self) -> list[str]:
        return list(self.page.locator("#classes .probability").all_inner_texts())

    def title(self, number: int = 0) -> str:
        return str(self.page.locator(".view .class-name").nth(number).inner_text())

    def fact(self, name: str, number: int = 0) -> str:
        return str(self.page.locator(".view").nth(number).locator(f".{name} dd").inner_text())

    def pixels(self, number: int = 0) -> Pixels:
        """Return the pixels of a figure's canvas, RGB, (H, W, 3)."""
        return self.pixels_of(self.page.locator(".stage canvas").nth(number))

    @staticmethod
    def pixels_of(canvas: Any) -> Pixels:
        """Return the pixels of an opaque canvas, RGB, (H, W, 3)."""
        width, height, content = canvas.evaluate(CANVAS)
        flat = np.frombuffer(base64.b64decode(content), np.uint8)
        assert (flat[3::4] == 255).all()
        return flat.reshape(height, width, 4)[:, :, :3]

    # ------------------------------------------------------------------------- TorchServe, without the page

    def response(self, file: Path, model: str = MODEL, **options: Any) -> dict[str, Any]:
        """Return TorchServe's response to a direct request."""
        url = f"{self.server.inference_url}/predictions/{model}"
        response = http_client.post(url, files={"data": ("p", file.read_bytes())}, data=options)
        assert response.status_code == 200, response.text
        document: dict[str, Any] = response.json()
        return document

    def overlay(self, file: Path, target: int, model: str = MODEL, **options: Any) -> Pixels:
        """Return TorchServe's own overlay, RGB."""
        document = self.response(file, model, targets=str(target), overlay="png", **options)
        return decoded(base64.b64decode(document["explanations"][0]["overlay"].split(",")[1]))


def difference(first: Pixels, second: Pixels) -> int:
    """Return the largest difference of two images, in gray levels."""
    assert first.shape == second.shape
    return int(np.abs(first.astype(int) - second).max())
