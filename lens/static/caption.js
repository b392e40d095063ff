// The caption strip below a saved image: what it shows, in words, and the color scale with its numbers.

import { paintScale } from "./overlay.js";

// Minimum width in pixels; narrower images have a margin at their right.
export const MIN_WIDTH = 480;
const BACKGROUND = "#ffffff";
const INK = "#1f1d1a";
// Widths of which the size of the text is a share, and its limits in pixels.
const TEXT_SHARE = 1 / 60;
const TEXT_SIZES = [13, 40];
const LINE_HEIGHT = 1.4;

/**
 * What a caption says.
 *
 * @typedef {object} Caption
 * @property {string[]} lines
 * @property {string} lowest number at the scale's left end
 * @property {string} highest number at the scale's right end
 */

/** Lines and sizes of a caption on an image of this width, in pixels. */
export function layout({ lines, lowest, highest }, width) {
  const size = Math.min(TEXT_SIZES[1], Math.max(TEXT_SIZES[0], Math.round(width * TEXT_SHARE)));
  const context = new OffscreenCanvas(1, 1).getContext("2d");
  context.font = font(size);
  const measure = (words) => context.measureText(words).width;
  const wrapped = lines.flatMap((line) => wrap(line, width - 2 * size, measure));
  const height = Math.ceil((wrapped.length + 1) * size * LINE_HEIGHT + size);
  return { lines: wrapped, lowest, highest, size, width, height };
}

/** Draw a caption below the first `top` rows of a canvas. */
export function drawCaption(context, { lines, lowest, highest, size, width, height }, top, display) {
  context.fillStyle = BACKGROUND;
  context.fillRect(0, top, width, height);
  context.fillStyle = INK;
  context.font = font(size);
  context.textBaseline = "middle";
  const step = size * LINE_HEIGHT;
  let y = top + size / 2 + step / 2;
  const scale = new OffscreenCanvas(1, 1);
  paintScale(scale, display);
  const from = size + context.measureText(lowest).width + size / 2;
  const length = Math.min(width / 2, 16 * size);
  context.fillText(lowest, size, y);
  context.imageSmoothingEnabled = false;
  context.drawImage(scale, from, y - size / 2, length, size);
  context.fillText(highest, from + length + size / 2, y);
  for (const line of lines) context.fillText(line, size, (y += step));
}

/** Break a line between words so that each part fits a width. */
export function wrap(line, width, measure) {
  const parts = [""];
  for (const word of line.split(" ")) {
    const longer = parts.at(-1) ? `${parts.at(-1)} ${word}` : word;
    if (parts.at(-1) && measure(longer) > width) parts.push(word);
    else parts[parts.length - 1] = longer;
  }
  return parts;
}

function font(size) {
  return `${size}px sans-serif`;
}
