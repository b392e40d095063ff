// A map's colors on an image: the arithmetic of the server's overlay, and a canvas that shows it.

import { COLORMAPS } from "./colormaps.js";
import { level } from "./heatmap.js";
import { drawOutline } from "./regions.js";

/**
 * How maps are drawn: those of the server, except the colors, whose order color-blind people see. `share` of the
 * map's maximum belongs to outline and boxes.
 */
export const DEFAULT_DISPLAY = { colormap: "cividis", alpha: 0.4, threshold: 0, outline: false, boxes: false, share: 0.5 };

/** A region of the image as sent, [left, top, right, bottom], in pixels of a copy scaled by `scale`. */
export function scaled([left, top, right, bottom], scale) {
  const [x, y] = [Math.round(left * scale), Math.round(top * scale)];
  return [x, y, Math.max(x + 1, Math.round(right * scale)), Math.max(y + 1, Math.round(bottom * scale))];
}

/**
 * Blend colors into a region of an image; the rest, and levels below the threshold, stay unchanged.
 *
 * @param {Uint8ClampedArray} pixels RGBA, `width` pixels per row
 * @param {number} width of the image
 * @param {Uint8Array} map levels of the region, row by row
 * @param {number[]} region [left, top, right, bottom] in the image's pixels
 * @param {{colormap: string, alpha: number, threshold: number}} display
 * @returns {Uint8ClampedArray} the blended image, RGBA
 */
export function blend(pixels, width, map, [left, top, right, bottom], display) {
  const result = new Uint8ClampedArray(pixels);
  const colors = COLORMAPS[display.colormap];
  const kept = Float32Array.from({ length: 256 }, (_, value) => value * (1 - display.alpha));
  const added = Float32Array.from(colors, (value) => value * display.alpha);
  const lowest = level(display.threshold);
  for (let y = top, from = 0; y < bottom; y += 1) {
    for (let at = 4 * (y * width + left); at < 4 * (y * width + right); at += 4, from += 1) {
      if (map[from] < lowest) continue;
      const color = 3 * map[from];
      result[at] = kept[pixels[at]] + added[color];
      result[at + 1] = kept[pixels[at + 1]] + added[color + 1];
      result[at + 2] = kept[pixels[at + 2]] + added[color + 2];
    }
  }
  return result;
}

/** Show an image in a canvas, with the colors of its map if there is one, and the points of an outline. */
export function paint(canvas, image, map, region, display, points = []) {
  if (canvas.width !== image.width || canvas.height !== image.height) {
    canvas.width = image.width;
    canvas.height = image.height;
  }
  const { width, height } = image;
  const pixels = map === null ? image.data : blend(image.data, width, map, region, display);
  if (points.length) drawOutline(pixels, width, points, [-region[0], -region[1]], Math.max(width, height));
  canvas.getContext("2d").putImageData(new ImageData(pixels, width, height), 0, 0);
}

/** Show a color map from 0, left, to 1; values below the threshold have no color. */
export function paintScale(canvas, display) {
  canvas.width = 256;
  canvas.height = 1;
  const pixels = new Uint8ClampedArray(4 * 256);
  for (let value = level(display.threshold); value < 256; value += 1) {
    pixels.set(COLORMAPS[display.colormap].subarray(3 * value, 3 * value + 3), 4 * value);
    pixels[4 * value + 3] = 255;
  }
  canvas.getContext("2d").putImageData(new ImageData(pixels, 256, 1), 0, 0);
}
