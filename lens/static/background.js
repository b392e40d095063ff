// The worker's tasks, as functions that return promises.

const worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
const pending = new Map();
let lastId = 0;

worker.onmessage = ({ data: { id, result, error } }) => {
  const { resolve, reject } = pending.get(id);
  pending.delete(id);
  if (error === undefined) resolve(result);
  else reject(new Error(error));
};

/**
 * Decode a file.
 *
 * @param {Blob} file
 * @returns {Promise<{image: ImageData, transparent: boolean}>} rejected if the browser cannot decode it
 */
export function preview(file) {
  return run("preview", { file });
}

// Pixels of the longer side of an image in the strip.
const STRIP_SIDE = 112;

/**
 * Decode a file and reduce it.
 *
 * @param {Blob} file
 * @param {number} side maximum pixels of the longer side
 * @returns {Promise<Blob>} a JPEG; rejected if the browser cannot decode the file
 */
export function thumbnail(file, side = STRIP_SIDE) {
  return run("thumbnail", { file, side });
}

/**
 * Draw a file with its map at full size, above its caption.
 *
 * @param {Blob} file
 * @param {{grid: number[][], own: number[][], region: number[]}} map grid of the colors, its own grid for outline and
 *   boxes, and the covered region
 * @returns {Promise<Blob>} a PNG
 */
export function overlay(file, map, display, caption) {
  return run("overlay", { file, map, display, caption });
}

/**
 * Draw a map alone, at the size of its image; black outside the region that it covers.
 *
 * @returns {Promise<Blob>} a PNG
 */
export function heatmap(grid, image, colormap) {
  return run("heatmap", { grid, image, colormap });
}

function run(task, values) {
  return new Promise((resolve, reject) => {
    lastId += 1;
    pending.set(lastId, { resolve, reject });
    worker.postMessage({ id: lastId, task, values });
  });
}
