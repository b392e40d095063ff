"""The HTML report that `predict.py` writes; tests/browser opens it in a browser."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tools.client import html_report
from tools.client.html_report import HtmlReport

ANSWER: dict[str, Any] = {
    "predictions": [{"index": 1, "label": "</script><b>", "probability": 0.5}],
    "explanations": [
        {"index": 1, "label": "</script><b>", "probability": 0.5, "evidence": True, "heatmap": [[1.0]], "peak": [0, 0]}
    ],
    "method": "gradcam",
    "layer": "a",
    "image": {"width": 8, "height": 4, "region": [0, 0, 8, 4]},
}


def saved(path: Path, pixels: np.ndarray[Any, Any], **options: Any) -> Path:
    Image.fromarray(pixels).save(path, **options)
    return path


def decoded(url: str) -> Image.Image:
    kind, content = url.split(",")
    assert kind == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(content)))


def scripts(page: str, kind: str) -> list[Any]:
    return [json.loads(text) for text in re.findall(f'<script type="application/json" {kind}>(.*?)</script>', page)]


def test_a_report_has_images_errors_and_texts(tmp_path: Path) -> None:
    image = saved(tmp_path / "a.png", np.full((4, 8, 3), 200, np.uint8))
    with HtmlReport(tmp_path / "out.html", "m") as written:
        written.add("a </script>.png", image, ANSWER)
        written.add_error("b.png", "<not an image>")

    page = (tmp_path / "out.html").read_text(encoding="utf-8")

    (entry,) = scripts(page, 'class="entry"')
    assert decoded(entry.pop("thumbnail")).size == (8, 4)
    assert entry == {"name": "a </script>.png", **ANSWER}
    assert scripts(page, 'class="error"') == [{"name": "b.png", "message": "<not an image>"}]
    (about,) = scripts(page, 'id="about"')
    assert about["model"] == "m"
    assert set(about["texts"]) == {"en", "de"}
    assert page.rstrip().endswith("</html>")


def interrupt(path: Path) -> None:
    with HtmlReport(path, "m") as written:
        written.add_error("b.png", "no")
        raise InterruptedError


def test_an_interrupted_run_leaves_a_complete_page(tmp_path: Path) -> None:
    with pytest.raises(InterruptedError):
        interrupt(tmp_path / "out.html")
    assert (tmp_path / "out.html").read_text(encoding="utf-8").rstrip().endswith("</html>")


def test_thumbnails_are_small_and_upright(tmp_path: Path) -> None:
    pixels = np.zeros((1000, 2000, 3), np.uint8)
    pixels[:, :1000] = (255, 0, 0)
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate clockwise
    path = saved(tmp_path / "a.jpg", pixels, exif=exif)

    small = decoded(html_report.thumbnail(path))

    assert small.size == (240, 480)
    assert np.abs(np.asarray(small, int)[100, 120] - (254, 0, 0)).max() <= 3
    assert np.asarray(small)[400, 120].max() <= 3


def test_16_bit_images_keep_their_upper_half(tmp_path: Path) -> None:
    pixels = np.repeat(np.array([[0, 255, 256, 32768, 65535]], np.uint16), 4, axis=0)
    path = saved(tmp_path / "deep.png", pixels)

    with Image.open(path) as image:
        assert image.mode.startswith("I;16")
        assert np.array_equal(np.asarray(html_report.eight_bit(image)), pixels >> 8)


def test_a_file_that_is_not_an_image(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("no")
    with pytest.raises(OSError, match="cannot identify"):
        html_report.thumbnail(tmp_path / "a.png")
