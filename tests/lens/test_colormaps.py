"""The page's color maps are OpenCV's."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from lens import colormaps

STATIC = Path(colormaps.__file__).parent / "static"
SOURCE = (STATIC / "colormaps.js").read_text(encoding="utf-8")


def test_the_module_is_up_to_date() -> None:
    assert colormaps.render() == SOURCE


def test_the_first_and_last_colors_of_jet() -> None:
    (jet,) = re.findall(r"jet: \[(.*?)\]", SOURCE, re.S)
    digits = "".join(re.findall(r"[0-9a-f]{96}", jet))
    assert len(digits) == 256 * 6
    assert (digits[:6], digits[-6:]) == ("000080", "800000")


@pytest.mark.parametrize("name", colormaps.NAMES)
def test_the_name_of_the_strongest_color(name: str) -> None:
    """The page says "Red: evidence for the class": the last color must be what its text says."""
    texts = json.loads((STATIC / "texts" / "en.json").read_text(encoding="utf-8"))
    lines = re.findall(rf"{name}: \[(.*?)\]", SOURCE, re.S)[0]
    red, green, blue = bytes.fromhex("".join(re.findall(r"[0-9a-f]{96}", lines))[-6:])
    said = texts[f"strongest.{name}"]
    if said == "White":
        assert (red, green, blue) == (255, 255, 255)
    elif said == "Red":
        assert red > 100 > green + blue
    else:
        assert min(red, green) > 200
        assert blue < 200
        assert said == ("Pale yellow" if blue > 120 else "Yellow")
