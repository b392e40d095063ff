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

/**
 * Draw a file with its map at full size, above its caption.
 *
 * @returns {Promise<Blob>} a PNG
 */
export function overlay(file, grid, region, display, caption) {
  return run("overlay", { file, grid, region, display, caption });
}

function run(task, values) {
  return new Promise((resolve, reject) => {
    lastId += 1;
    pending.set(lastId, { resolve, reject });
    worker.postMessage({ id: lastId, task, values });
  });
}
