"""A folder of different images, for the calibration of small networks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SIDE = 80


def write(folder: Path, count: int, seed: int = 0) -> list[Path]:
    """Write random crops of the three examples as PNG files, and return their paths."""
    random = np.random.default_rng(seed)
    photographs = [_photograph(name) for name in ("chelsea.jpg", "coffee.jpg", "rocket.jpg")]
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number in range(count):
        photograph = photographs[number % 3]
        side = int(random.integers(SIDE, min(photograph.size)))
        left, top = (int(random.integers(0, size - side + 1)) for size in photograph.size)
        path = folder / f"{number:04}.png"
        photograph.crop((left, top, left + side, top + side)).resize((SIDE, SIDE)).save(path)
        paths.append(path)
    return paths


def _photograph(name: str) -> Image.Image:
    with Image.open(EXAMPLES / name) as image:
        converted: Image.Image = image.convert("RGB")
    return converted
