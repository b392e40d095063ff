"""The page's color maps are OpenCV's."""

from __future__ import annotations

import re
from pathlib import Path

from lens import colormaps

SOURCE = (Path(colormaps.__file__).parent / "static" / "colormaps.js").read_text(encoding="utf-8")


def test_the_module_is_up_to_date() -> None:
    assert colormaps.render() == SOURCE


def test_the_first_and_last_colors_of_jet() -> None:
    (jet,) = re.findall(r"jet: \[(.*?)\]", SOURCE, re.S)
    digits = "".join(re.findall(r"[0-9a-f]{96}", jet))
    assert len(digits) == 256 * 6
    assert (digits[:6], digits[-6:]) == ("000080", "800000")
