"""A self-contained HTML report that opens from disk: the page of `lens.report` with entries.

Entries are written one at a time, each a thumbnail and the numbers of its maps; the browser draws them.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from PIL import Image, ImageOps

from lens.report import data_url, page, to_json

THUMBNAIL_SIDE = 480
THUMBNAIL_QUALITY = 85


class HtmlReport:
    """A file that is written image by image; leaving the block completes it, even if the run was interrupted."""

    def __init__(self, path: Path, model: str) -> None:
        """Describe a report; nothing is written yet.

        Args:
            path: of the file; an existing one is replaced.
            model: name of the model that explains.
        """
        self._path = path
        self._model = model
        self._exit = ExitStack()

    def __enter__(self) -> HtmlReport:
        """Write everything that precedes the entries."""
        head, self._tail = page(self._model).split("<!-- entries -->")
        self._file = self._exit.enter_context(self._path.open("w", encoding="utf-8"))
        self._file.write(head)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Complete the file."""
        with self._exit:
            self._file.write(self._tail)

    def add(self, name: str, image: Path, answer: Mapping[str, Any]) -> None:
        """Add an explained image.

        Args:
            name: to show in the report.
            image: its file, which is read again for the thumbnail.
            answer: predictions, explanations, method, layer and image, as in the server's response.

        Raises:
            OSError: no thumbnail can be made.
        """
        self._file.write(data_script("entry", {"name": name, "thumbnail": thumbnail(image), **answer}))

    def add_error(self, name: str, message: str) -> None:
        """Add an image that has no answer."""
        self._file.write(data_script("error", {"name": name, "message": message}))


def data_script(kind: str, value: Any) -> str:
    """Return a script element with data for the page's script."""
    return f'<script type="application/json" class="{kind}">{to_json(value)}</script>\n'


def thumbnail(path: Path) -> str:
    """Return a small JPEG of an image as a data URL, with its EXIF orientation applied.

    Raises:
        OSError: the file does not exist, or Pillow cannot read it.
    """
    with Image.open(path) as image:
        image.draft("RGB", (THUMBNAIL_SIDE, THUMBNAIL_SIDE))
        upright = ImageOps.exif_transpose(eight_bit(image))
        small = upright.convert("RGB")
    small.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    file = io.BytesIO()
    small.save(file, "JPEG", quality=THUMBNAIL_QUALITY)
    return data_url("image/jpeg", file.getvalue())


def eight_bit(image: Image.Image) -> Image.Image:
    """Return the upper 8 of 16 bits, as the server does; Pillow's own conversion clips at 255."""
    if not image.mode.startswith("I;16"):
        return image
    return image.convert("I").point(lambda value: value * (1 / 256)).convert("L")
