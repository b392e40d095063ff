// Slow tasks that would freeze the page: decoding images, and drawing them at full size.

import { MIN_WIDTH, drawCaption, layout } from "./caption.js";
import { levels } from "./heatmap.js";
import { blend } from "./overlay.js";

// Maximum side of a preview in pixels; the page's canvas shows no more.
const LONGEST_SIDE = 1280;
// Rows that are drawn at once, to limit memory.
const BAND = 256;
// The server ignores color profiles, too.
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
  /** Decode a file, reduced to the size of a preview. */
  async preview({ file }) {
    const bitmap = await createImageBitmap(file, DECODING);
    const { width, height } = bitmap;
    const scale = Math.min(1, LONGEST_SIDE / Math.max(width, height));
    const canvas = new OffscreenCanvas(Math.max(1, Math.round(width * scale)), Math.max(1, Math.round(height * scale)));
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.imageSmoothingQuality = "high";
    context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
    bitmap.close();
    const image = context.getImageData(0, 0, canvas.width, canvas.height);
    release(canvas);
    return { result: { image, transparent: isTransparent(image.data) }, transfer: [image.data.buffer] };
  },

  /** Draw a file with its map at full size, above its caption, as a PNG. */
  async overlay({ file, grid, region, display, caption }) {
    const bitmap = await createImageBitmap(file, DECODING);
    const { height: top } = bitmap;
    const strip = layout(caption, Math.max(MIN_WIDTH, bitmap.width));
    const canvas = new OffscreenCanvas(strip.width, top + strip.height);
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(bitmap, 0, 0);
    bitmap.close();
    const [left, first, right, bottom] = region;
    for (let y = first; y < bottom; y += BAND) {
      const rows = Math.min(BAND, bottom - y);
      const map = levels(grid, right - left, bottom - first, y - first, y - first + rows);
      const band = context.getImageData(left, y, right - left, rows);
      const pixels = blend(band.data, band.width, map, [0, 0, band.width, rows], display);
      context.putImageData(new ImageData(pixels, band.width, rows), left, y);
    }
    drawCaption(context, strip, top, display);
    const blob = await canvas.convertToBlob({ type: "image/png" });
    release(canvas);
    return { result: blob, transfer: [] };
  },
};

/** Free a canvas's memory immediately; the worker allocates too little for the garbage collector to run soon. */
function release(canvas) {
  canvas.width = canvas.height = 0;
}

function isTransparent(pixels) {
  for (let at = 3; at < pixels.length; at += 4) if (pixels[at] !== 255) return true;
  return false;
}
