"""The image at the top of the README: the examples with the server's overlays and what the server predicts.

`scripts/screenshots.py` writes it, too.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from tools.client.client import Client

EXAMPLES = ("chelsea.jpg", "coffee.jpg", "rocket.jpg")
HEIGHT = 270
MARGIN = 12
TITLE_SIZE, TEXT_SIZE = 22, 16
LINE_SPACING = 8
INK, BACKGROUND = (31, 29, 26), (255, 255, 255)


@dataclass(frozen=True)
class Panel:
    """An image with its map, and what is written below."""

    overlay: Image.Image
    title: str
    text: str


def panel(client: Client, path: Path) -> Panel:
    """Have an image explained, and return its overlay with the predicted class.

    Raises:
        ImageError: the server rejects the image.
        ServerUnavailable: the server does not answer.
    """
    answer = client.explain(path.read_bytes(), overlay="png")
    (explanation,) = answer.explanations
    assert explanation.overlay is not None
    overlay = Image.open(io.BytesIO(explanation.overlay)).convert("RGB")
    return Panel(overlay, *caption(answer.document))


def caption(document: Mapping[str, Any]) -> tuple[str, str]:
    """Return the two lines below an image: the predicted class, and the strength of its map."""
    explanation, model = document["explanations"][0], document["model"]
    title = f"{explanation['label']} {explanation['probability']:.1%}"
    return title, f"strength {explanation['strength']:.3g}  ·  {document['method']}, {model['name']}"


def compose(panels: Sequence[Panel]) -> Image.Image:
    """Return panels side by side, all of one height, each with its caption."""
    overlays = [_resized(each.overlay) for each in panels]
    width = sum(overlay.width for overlay in overlays) + MARGIN * (len(overlays) - 1)
    height = HEIGHT + TITLE_SIZE + TEXT_SIZE + 3 * LINE_SPACING
    figure = Image.new("RGB", (width, height), BACKGROUND)
    draw = ImageDraw.Draw(figure)
    left = 0
    for each, overlay in zip(panels, overlays, strict=True):
        figure.paste(overlay, (left, 0))
        top = HEIGHT + LINE_SPACING
        draw.text((left, top), each.title, INK, ImageFont.load_default(TITLE_SIZE))
        draw.text((left, top + TITLE_SIZE + LINE_SPACING), each.text, INK, ImageFont.load_default(TEXT_SIZE))
        left += overlay.width + MARGIN
    return figure


def _resized(image: Image.Image) -> Image.Image:
    return image.resize((round(image.width * HEIGHT / image.height), HEIGHT), Image.Resampling.LANCZOS)
