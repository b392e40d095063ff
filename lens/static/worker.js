// Slow tasks that would freeze the page: decoding images, and drawing them at full size.

import { MIN_WIDTH, drawCaption, layout } from "./caption.js";
import { levels } from "./heatmap.js";
import { blend } from "./overlay.js";
import { boxes, drawOutline, outline } from "./regions.js";

// Maximum side of a preview in pixels; the page's canvas shows no more.
const LONGEST_SIDE = 1280;
// Of a JPEG.
const THUMBNAIL_QUALITY = 0.8;
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
    const { canvas, context } = await reduced(file, LONGEST_SIDE);
    const image = context.getImageData(0, 0, canvas.width, canvas.height);
    release(canvas);
    return { result: { image, transparent: isTransparent(image.data) }, transfer: [image.data.buffer] };
  },

  /** Decode a file, reduced to a thumbnail, as a JPEG. */
  async thumbnail({ file, side }) {
    const { canvas } = await reduced(file, side);
    const blob = await canvas.convertToBlob({ type: "image/jpeg", quality: THUMBNAIL_QUALITY });
    release(canvas);
    return { result: blob, transfer: [] };
  },

  /** Draw a file with its map, outline and boxes at full size, above its caption, as a PNG. */
  async overlay({ file, map, display, caption }) {
    const bitmap = await createImageBitmap(file, DECODING);
    const { width, height: top } = bitmap;
    const strip = layout(caption, Math.max(MIN_WIDTH, width));
    const canvas = new OffscreenCanvas(strip.width, top + strip.height);
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(bitmap, 0, 0);
    bitmap.close();
    drawColors(context, map.grid, map.region, display);
    if (display.outline) drawLines(context, map, width, top, display.share);
    if (display.boxes) drawBoxes(context, boxes(map.own, map.region, display.share));
    drawCaption(context, strip, top, display);
    const blob = await canvas.convertToBlob({ type: "image/png" });
    release(canvas);
    return { result: blob, transfer: [] };
  },

  /** Draw a map alone, at full size, as a PNG. */
  async heatmap({ grid, image, colormap }) {
    const canvas = new OffscreenCanvas(image.width, image.height);
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.fillRect(0, 0, image.width, image.height);
    drawColors(context, grid, image.region, { colormap, alpha: 1, threshold: 0 });
    const blob = await canvas.convertToBlob({ type: "image/png" });
    release(canvas);
    return { result: blob, transfer: [] };
  },
};

/** A file, decoded into a canvas whose sides have at most so many pixels. */
async function reduced(file, longest) {
  const bitmap = await createImageBitmap(file, DECODING);
  const { width, height } = bitmap;
  const scale = Math.min(1, longest / Math.max(width, height));
  const canvas = new OffscreenCanvas(Math.max(1, Math.round(width * scale)), Math.max(1, Math.round(height * scale)));
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  return { canvas, context };
}

/** Blend the colors of a map into its region, band by band. */
function drawColors(context, grid, [left, first, right, bottom], display) {
  for (let y = first; y < bottom; y += BAND) {
    const rows = Math.min(BAND, bottom - y);
    const map = levels(grid, right - left, bottom - first, y - first, y - first + rows);
    const band = context.getImageData(left, y, right - left, rows);
    const pixels = blend(band.data, band.width, map, [0, 0, band.width, rows], display);
    context.putImageData(new ImageData(pixels, band.width, rows), left, y);
  }
}

/** Draw the outline of where a map reaches a share of its maximum, band by band. */
function drawLines(context, { own, region: [left, top, right, bottom] }, width, height, share) {
  const points = outline(own, right - left, bottom - top, share);
  for (let y = 0; y < height; y += BAND) {
    const band = context.getImageData(0, y, width, Math.min(BAND, height - y));
    drawOutline(band.data, width, points, [-left, y - top], Math.max(width, height));
    context.putImageData(band, 0, y);
  }
}

/** Draw boxes as white lines with black edges. */
function drawBoxes(context, found) {
  const { width, height } = context.canvas;
  const thickness = Math.max(1, Math.round(Math.max(width, height) / 250));
  for (const [color, lineWidth] of [["#000000", 3 * thickness], ["#ffffff", thickness]]) {
    Object.assign(context, { strokeStyle: color, lineWidth });
    for (const { box: [left, top, right, bottom] } of found) context.strokeRect(left, top, right - left, bottom - top);
  }
}

/** Free a canvas's memory immediately; the worker allocates too little for the garbage collector to run soon. */
function release(canvas) {
  canvas.width = canvas.height = 0;
}

function isTransparent(pixels) {
  for (let at = 3; at < pixels.length; at += 4) if (pixels[at] !== 255) return true;
  return false;
}
