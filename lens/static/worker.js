// What would freeze the page: decoding pictures, and drawing at their full size.

import { levels } from "./heatmap.js";
import { blend } from "./overlay.js";

// What the page draws on; its canvas shows no more.
const LONGEST_SIDE = 1280;
// Rows that are drawn at once, for the memory's sake.
const BAND = 256;
// The server ignores colour profiles, too.
const DECODING = { colorSpaceConversion: "none", premultiplyAlpha: "none" };

self.onmessage = async ({ data: { id, task, values } }) => {
  try {
    const { result, transfer } = await TASKS[task](values);
    self.postMessage({ id, result }, transfer);
  } catch (error) {
    self.postMessage({ id, error: String(error) });
  }
};

const TASKS = {
  /** Decodes a file into what the page draws on. */
  async preview({ file }) {
    const bitmap = await createImageBitmap(file, DECODING);
    const { width, height } = bitmap;
    const scale = Math.min(1, LONGEST_SIDE / Math.max(width, height));
    const canvas = new OffscreenCanvas(Math.max(1, Math.round(width * scale)), Math.max(1, Math.round(height * scale)));
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.imageSmoothingQuality = "high";
    context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
    bitmap.close();
    const picture = context.getImageData(0, 0, canvas.width, canvas.height);
    release(canvas);
    return { result: { picture, transparent: isTransparent(picture.data) }, transfer: [picture.data.buffer] };
  },

  /** Draws a file with its map at full size, as a PNG. */
  async overlay({ file, grid, region, look }) {
    const bitmap = await createImageBitmap(file, DECODING);
    const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(bitmap, 0, 0);
    bitmap.close();
    const [left, top, right, bottom] = region;
    for (let y = top; y < bottom; y += BAND) {
      const rows = Math.min(BAND, bottom - y);
      const map = levels(grid, right - left, bottom - top, y - top, y - top + rows);
      const band = context.getImageData(left, y, right - left, rows);
      const pixels = blend(band.data, band.width, map, [0, 0, band.width, rows], look);
      context.putImageData(new ImageData(pixels, band.width, rows), left, y);
    }
    const blob = await canvas.convertToBlob({ type: "image/png" });
    release(canvas);
    return { result: blob, transfer: [] };
  },
};

/** Gives a canvas's memory back at once; the worker is hardly ever busy enough to be cleaned up. */
function release(canvas) {
  canvas.width = canvas.height = 0;
}

function isTransparent(pixels) {
  for (let at = 3; at < pixels.length; at += 4) if (pixels[at] !== 255) return true;
  return false;
}
