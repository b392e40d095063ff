"""The page as the tests see it: what a person does there, and what is on it."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import requests
from numpy.typing import NDArray
from PIL import Image

from tools.server.server import Server

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
MODEL = "efficientnet_lite0"
Pixels = NDArray[np.uint8]

# A file that comes from a desktop or a clipboard, as the browser makes one.
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
    asked: list[str] = field(default_factory=list)
    """The requests for predictions."""
    addresses: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", self._said)
        self.page.on("request", self._requested)

    def _said(self, message: Any) -> None:
        # The browser itself remarks each answer that is an error; tests of these look at the page.
        if message.type == "error" and "Failed to load resource" not in message.text:
            self.errors.append(message.text)

    def _requested(self, request: Any) -> None:
        self.addresses.append(request.url)
        if "/predictions/" in request.url:
            self.asked.append(request.url)

    # ------------------------------------------------------------------------- doing

    def choose(self, file: Path) -> None:
        self.page.set_input_files("#file", file)

    def drop(self, file: Path) -> None:
        self._transfer(file, "(transfer) => document.dispatchEvent(new DragEvent('drop', {dataTransfer: transfer}))")

    def paste(self, file: Path) -> None:
        paste = "(transfer) => document.dispatchEvent(new ClipboardEvent('paste', {clipboardData: transfer}))"
        self._transfer(file, paste)

    def _transfer(self, file: Path, event: str) -> None:
        content = base64.b64encode(file.read_bytes()).decode()
        self.page.evaluate_handle(TRANSFER, [file.name, content]).evaluate(event)

    def explain(self, file: Path) -> None:
        """Chooses a file and waits until it is explained."""
        self.choose(file)
        self.wait_for(file.name)

    def wait_for(self, name: str) -> None:
        self.page.wait_for_function(
            "(said) => document.querySelector('#status').textContent === said", arg=f"{name} is explained"
        )

    def settle(self) -> None:
        """Waits until nothing is under way."""
        self.page.wait_for_function("() => !document.body.classList.contains('busy')")

    def pick(self, label: str) -> None:
        """Chooses a class."""
        self.page.get_by_role("radio", name=label).check()
        self.settle()

    def search(self, text: str) -> None:
        self.page.fill("#search", text)

    # ------------------------------------------------------------------------- seeing

    def classes(self) -> list[str]:
        return list(self.page.locator("#classes .label").all_inner_texts())

    def probabilities(self) -> list[str]:
        return list(self.page.locator("#classes .probability").all_inner_texts())

    def title(self, number: int = 0) -> str:
        return str(self.page.locator(".view .class-name").nth(number).inner_text())

    def fact(self, name: str, number: int = 0) -> str:
        return str(self.page.locator(".view").nth(number).locator(f".{name} dd").inner_text())

    def pixels(self, number: int = 0) -> Pixels:
        """What is on a figure's canvas, RGB, (H, W, 3)."""
        width, height, content = self.page.locator(".view canvas").nth(number).evaluate(CANVAS)
        flat = np.frombuffer(base64.b64decode(content), np.uint8)
        assert (flat[3::4] == 255).all()
        return flat.reshape(height, width, 4)[:, :, :3]

    # ------------------------------------------------------------------------- asking the server itself

    def answer(self, file: Path, model: str = MODEL, **options: Any) -> dict[str, Any]:
        """What TorchServe says when asked directly."""
        url = f"{self.server.inference_url}/predictions/{model}"
        with requests.Session() as session:
            session.trust_env = False
            response = session.post(url, files={"data": ("p", file.read_bytes())}, data=options, timeout=60)
        assert response.status_code == 200, response.text
        answer: dict[str, Any] = response.json()
        return answer

    def overlay(self, file: Path, target: int, model: str = MODEL, **options: Any) -> Pixels:
        """TorchServe's own overlay, RGB."""
        answer = self.answer(file, model, targets=str(target), overlay="png", **options)
        return decoded(base64.b64decode(answer["explanations"][0]["overlay"].split(",")[1]))


def decoded(content: bytes) -> Pixels:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def difference(ours: Pixels, theirs: Pixels) -> int:
    """The largest, in grey levels."""
    assert ours.shape == theirs.shape
    return int(np.abs(ours.astype(int) - theirs).max())
