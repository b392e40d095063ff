// A map's colours on a picture: the arithmetic of the server's overlay, and a canvas that shows it.

import { COLORMAPS } from "./colormaps.js";
import { level } from "./heatmap.js";

/** How the server draws when nothing else is asked for. */
export const LOOK = { colormap: "jet", alpha: 0.4, threshold: 0 };

/** A region of the picture as sent, [left, top, right, bottom], in pixels of a copy that is `scale` as large. */
export function scaled([left, top, right, bottom], scale) {
  const [x, y] = [Math.round(left * scale), Math.round(top * scale)];
  return [x, y, Math.max(x + 1, Math.round(right * scale)), Math.max(y + 1, Math.round(bottom * scale))];
}

/**
 * Lays colours over a region of a picture; the rest, and what is below the threshold, stays as it is.
 *
 * @param {Uint8ClampedArray} picture RGBA, `width` pixels a row
 * @param {number} width of the picture
 * @param {Uint8Array} map levels of the region, row by row
 * @param {number[]} region [left, top, right, bottom] in the picture's pixels
 * @param {{colormap: string, alpha: number, threshold: number}} look
 * @returns {Uint8ClampedArray} the coloured picture, RGBA
 */
export function blend(picture, width, map, [left, top, right, bottom], look) {
  const result = new Uint8ClampedArray(picture);
  const colors = COLORMAPS[look.colormap];
  const kept = Float32Array.from({ length: 256 }, (_, value) => value * (1 - look.alpha));
  const added = Float32Array.from(colors, (value) => value * look.alpha);
  const least = level(look.threshold);
  for (let y = top, from = 0; y < bottom; y += 1) {
    for (let at = 4 * (y * width + left); at < 4 * (y * width + right); at += 4, from += 1) {
      if (map[from] < least) continue;
      const color = 3 * map[from];
      result[at] = kept[picture[at]] + added[color];
      result[at + 1] = kept[picture[at + 1]] + added[color + 1];
      result[at + 2] = kept[picture[at + 2]] + added[color + 2];
    }
  }
  return result;
}

/** Shows a picture in a canvas, coloured where there is a map. */
export function paint(canvas, picture, map, region, look) {
  if (canvas.width !== picture.width || canvas.height !== picture.height) {
    canvas.width = picture.width;
    canvas.height = picture.height;
  }
  const pixels = map === null ? picture.data : blend(picture.data, picture.width, map, region, look);
  canvas.getContext("2d").putImageData(new ImageData(pixels, picture.width, picture.height), 0, 0);
}

/** Shows a colour map from 0, left, to 1; what is below the threshold has no colour. */
export function paintScale(canvas, look) {
  canvas.width = 256;
  canvas.height = 1;
  const pixels = new Uint8ClampedArray(4 * 256);
  for (let value = level(look.threshold); value < 256; value += 1) {
    pixels.set(COLORMAPS[look.colormap].subarray(3 * value, 3 * value + 3), 4 * value);
    pixels[4 * value + 3] = 255;
  }
  canvas.getContext("2d").putImageData(new ImageData(pixels, 256, 1), 0, 0);
}
