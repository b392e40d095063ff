"""Writes what was explained into one HTML file that opens from disk, made of the modules of the page in `lens/static/`.

The modules go in unchanged but for how they name one another: as data URLs in an import map, which a page from disk may
load, unlike files. Pictures are written as they come, each a thumbnail and its maps' numbers; the browser draws.
"""

from __future__ import annotations

import base64
import io
import json
import re
import secrets
from collections.abc import Mapping
from contextlib import ExitStack
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import Any

from PIL import Image, ImageOps

from tools.paths import ROOT

STATIC = ROOT / "lens" / "static"
MAIN = "report"
STYLES = ("style.css", "report.css")
LANGUAGES = ("en", "de")
IMPORT = re.compile(r'(?<=from ")\./(\w+)\.js(?=")')

THUMBNAIL_SIDE = 480
THUMBNAIL_QUALITY = 85


class Report:
    """A file that is written picture by picture; complete when the block is left, also where a run breaks off."""

    def __init__(self, path: Path, model: str) -> None:
        """Describes a report; nothing is written yet.

        Args:
            path: of the file; one that exists is replaced.
            model: that explains.
        """
        self._path = path
        self._model = model
        self._exit = ExitStack()

    def __enter__(self) -> Report:
        """Writes all that comes in front of the pictures."""
        head, self._tail = page(self._model).split("<!-- entries -->")
        self._file = self._exit.enter_context(self._path.open("w", encoding="utf-8"))
        self._file.write(head)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Completes the file."""
        with self._exit:
            self._file.write(self._tail)

    def add(self, name: str, picture: Path, answer: Mapping[str, Any]) -> None:
        """Adds an explained picture.

        Args:
            name: that the report shows.
            picture: its file, which is read again for the thumbnail.
            answer: predictions, explanations, method, layer and image as the server says them.
        """
        self._file.write(data("entry", {"name": name, "thumbnail": thumbnail(picture), **answer}))

    def add_error(self, name: str, message: str) -> None:
        """Adds a picture that has no answer."""
        self._file.write(data("error", {"name": name, "message": message}))


def page(model: str) -> str:
    """Returns the page without pictures; `<!-- entries -->` is where they go."""
    nonce = secrets.token_urlsafe(18)
    policy = (
        f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    imports = {f"lens/{name}": data_url("text/javascript", source.encode()) for name, source in modules().items()}
    styles = "".join((STATIC / name).read_text(encoding="utf-8") for name in STYLES)
    head = (
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        f'<style nonce="{nonce}">{styles}</style>\n'
        f'<script type="importmap" nonce="{nonce}">{to_json({"imports": imports})}</script>\n'
        f'<script type="module" nonce="{nonce}">import "lens/{MAIN}";</script>\n'
    )
    texts = {name: json.loads((STATIC / "texts" / f"{name}.json").read_text(encoding="utf-8")) for name in LANGUAGES}
    about = {"model": model, "time": datetime.now(timezone.utc).isoformat(timespec="seconds"), "texts": texts}
    template = (STATIC / "report.html").read_text(encoding="utf-8")
    return template.replace("<!-- head -->", head).replace(
        "<!-- entries -->", f'<script type="application/json" id="about">{to_json(about)}</script>\n<!-- entries -->'
    )


def modules() -> dict[str, str]:
    """Returns the module of the report and all that it imports, as they name one another in an import map."""
    found: dict[str, str] = {}
    waiting = [MAIN]
    while waiting:
        name = waiting.pop()
        source = (STATIC / f"{name}.js").read_text(encoding="utf-8")
        waiting += [other for other in IMPORT.findall(source) if other not in found]
        found[name] = IMPORT.sub(r"lens/\1", source)
    return found


def data(kind: str, value: Any) -> str:
    """Returns data for the page's script."""
    return f'<script type="application/json" class="{kind}">{to_json(value)}</script>\n'


def to_json(value: Any) -> str:
    """Returns JSON in which nothing can end a script element: names and labels are not ours."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")


def data_url(kind: str, content: bytes) -> str:
    """Returns content as an address."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def thumbnail(picture: Path) -> str:
    """Returns a small JPEG of a picture, turned as its EXIF orientation says.

    Raises:
        OSError: the file is gone, or Pillow cannot read it.
    """
    with Image.open(picture) as image:
        image.draft("RGB", (THUMBNAIL_SIDE, THUMBNAIL_SIDE))
        upright = ImageOps.exif_transpose(eight_bit(image))
        small = upright.convert("RGB")
    small.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    file = io.BytesIO()
    small.save(file, "JPEG", quality=THUMBNAIL_QUALITY)
    return data_url("image/jpeg", file.getvalue())


def eight_bit(image: Image.Image) -> Image.Image:
    """Returns the upper 8 of 16 bits, as the server takes them; Pillow's own conversion cuts off at 255."""
    if not image.mode.startswith("I;16"):
        return image
    return image.convert("I").point(lambda value: value * (1 / 256)).convert("L")
