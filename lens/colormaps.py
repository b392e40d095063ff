"""Write `static/colormaps.js`: OpenCV's tables and gray levels, so that browser and server have the same colors.

python -m lens.colormaps
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

FILE = Path(__file__).parent / "static" / "colormaps.js"
# jet is the server's default. The others increase in lightness, so color-blind people see their order, too;
# cividis looks the same to them, and gray to everybody.
NAMES = ("cividis", "viridis", "inferno", "gray", "jet")
COLORS_PER_LINE = 16

HEADER = """\
// Written by `python -m lens.colormaps` from OpenCV's tables.

const TABLES = {
"""
FOOTER = """\
};

/** For each name 256 colors as 768 bytes: red, green, blue of level 0, then of level 1 … */
export const COLORMAPS = Object.fromEntries(
  Object.entries(TABLES).map(([name, lines]) => [name, bytes(lines.join(""))]),
);

function bytes(hex) {
  return Uint8Array.from(hex.match(/../g), (digits) => parseInt(digits, 16));
}
"""


def render() -> str:
    """Return the source of the JavaScript module."""
    return HEADER + "".join(f"  {name}: [\n{_lines(name)}  ],\n" for name in NAMES) + FOOTER


def _lines(name: str) -> str:
    levels = np.arange(256, dtype=np.uint8)
    if name == "gray":
        image = cv2.cvtColor(levels, cv2.COLOR_GRAY2BGR)  # (256,) → (256, 1, 3)
    else:
        image = cv2.applyColorMap(levels, getattr(cv2, f"COLORMAP_{name.upper()}"))  # (256,) → (256, 1, 3)
    colors = image[:, 0, ::-1]  # (256, 3), RGB
    rows = colors.reshape(-1, COLORS_PER_LINE * 3)  # (16, 48)
    return "".join(f'    "{row.tobytes().hex()}",\n' for row in rows)


if __name__ == "__main__":
    FILE.write_text(render(), encoding="utf-8")
