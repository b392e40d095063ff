// A map's colors on an image: the arithmetic of the server's overlay, and a canvas that shows it.

import { COLORMAPS } from "./colormaps.js";
import { level } from "./heatmap.js";

/** The server's defaults. */
export const DEFAULT_DISPLAY = { colormap: "jet", alpha: 0.4, threshold: 0 };

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

/** Show an image in a canvas, with the colors of its map if there is one. */
export function paint(canvas, image, map, region, display) {
  if (canvas.width !== image.width || canvas.height !== image.height) {
    canvas.width = image.width;
    canvas.height = image.height;
  }
  const pixels = map === null ? image.data : blend(image.data, image.width, map, region, display);
  canvas.getContext("2d").putImageData(new ImageData(pixels, image.width, image.height), 0, 0);
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
