"""Caption: a strip below an overlay with class, method, model, and a legend of the colors."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from gradcam.explain.overlay import colorize
from gradcam.explain.provenance import Provenance
from gradcam.options import Options

# The size of the text grows with the image between these limits, in pixels.
TEXT_SIZES = (11, 40)
COLUMNS = 60
# A strip below an image that is only a few pixels wide would otherwise be thousands of lines high.
MAX_LINES = 40
BACKGROUND, INK = (255, 255, 255), (0, 0, 0)


def add(drawn: NDArray[np.uint8], provenance: Provenance, options: Options) -> NDArray[np.uint8]:
    """Return an overlay with the strip below; the overlay itself keeps every pixel.

    Args:
        drawn: (H, W, 3) in BGR, or (H, W) in gray levels.
        provenance: what the strip states.
        options: of the request; its style and color map decide the legend.

    Returns:
        The same kind of image, of the same width and more rows.
    """
    strip = _strip(drawn.shape[1], provenance, options)  # (h, W, 3)
    return np.concatenate([drawn, strip if drawn.ndim == 3 else strip[:, :, 0]])


def lines(provenance: Provenance, options: Options) -> list[str]:
    """Return the lines of text above the legend."""
    subject = f"{provenance.label} (class {provenance.index}), probability {100 * provenance.probability:.3g} %"
    side = "against" if provenance.is_against else "for"
    versus = f", compared with {provenance.versus}" if provenance.versus else ""
    contour = f", contour at {100 * options.contour_share:g} % of the maximum" if options.style == "outline" else ""
    return [
        f"{'Evidence' if provenance.strength else 'No evidence'} {side} {subject}{versus}",
        f"Method {provenance.method}, layer {', '.join(provenance.layers)}{contour}",
        f"Model {provenance.model} {provenance.version}, weights {provenance.weights}",
        f"{provenance.time} (UTC)",
    ]


def _strip(width: int, provenance: Provenance, options: Options) -> NDArray[np.uint8]:
    """Return the strip (h, width, 3) in BGR."""
    size = min(max(width // COLUMNS, TEXT_SIZES[0]), TEXT_SIZES[1])
    font = ImageFont.load_default(size)
    margin, step = size // 2, round(1.4 * size)
    available = max(1, width - 2 * margin)
    text = [part for line in lines(provenance, options) for part in _wrapped(line, font, available)][:MAX_LINES]
    has_legend = options.style != "outline"
    height = 2 * margin + step * (len(text) + (2 if has_legend else 0))
    strip = Image.new("RGB", (width, height), BACKGROUND)
    draw = ImageDraw.Draw(strip)
    for number, line in enumerate(text):
        draw.text((margin, margin + number * step), line, INK, font)
    pixels = np.array(strip)[:, :, ::-1]  # RGB → BGR
    if has_legend:
        top = margin + len(text) * step
        _draw_ticks(draw, (margin, top + step, width - margin), provenance.strength, font)
        pixels = np.array(strip)[:, :, ::-1]
        ramp = np.linspace(0, 255, available).astype(np.uint8)[None].repeat(size, axis=0)  # (size, available)
        pixels[top : top + size, margin : margin + available] = _colors(ramp, options)[:, : width - margin]
    return np.ascontiguousarray(pixels)


def _draw_ticks(
    draw: ImageDraw.ImageDraw,
    place: tuple[int, int, int],
    strength: float,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> None:
    """Write 0, half the strength and the strength below the legend, as far as they fit."""
    left, top, right = place
    for share, anchor in ((0.0, "la"), (0.5, "ma"), (1.0, "ra")):
        if share != 0.5 or right - left > 20 * draw.textlength("0", font):
            draw.text((left + share * (right - left), top), f"{share * strength:.3g}", INK, font, anchor=anchor)


def _colors(levels: NDArray[np.uint8], options: Options) -> NDArray[np.uint8]:
    return colorize(levels, "gray" if options.style == "gray" else options.colormap)


def _wrapped(line: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    """Return a line in parts that fit the width, broken between words, or within a word that is too long."""
    parts = [""]
    for word in line.replace("\n", " ").split(" "):
        candidate = f"{parts[-1]} {word}".strip()
        if font.getlength(candidate) <= width:
            parts[-1] = candidate
            continue
        if parts[-1]:
            parts.append("")
        for character in word:
            if parts[-1] and font.getlength(parts[-1] + character) > width:
                parts.append("")
            parts[-1] += character
        if len(parts) > MAX_LINES:
            break
    return parts
