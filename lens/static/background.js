// The worker, as functions that return promises.

const worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
const waiting = new Map();
let last = 0;

worker.onmessage = ({ data: { id, result, error } }) => {
  const { resolve, reject } = waiting.get(id);
  waiting.delete(id);
  if (error === undefined) resolve(result);
  else reject(new Error(error));
};

/**
 * Decodes a file.
 *
 * @param {Blob} file
 * @returns {Promise<{picture: ImageData, transparent: boolean}>} rejected where the browser cannot
 */
export function preview(file) {
  return run("preview", { file });
}

/**
 * Draws a file with its map at full size.
 *
 * @returns {Promise<Blob>} a PNG
 */
export function overlay(file, grid, region, look) {
  return run("overlay", { file, grid, region, look });
}

function run(task, values) {
  return new Promise((resolve, reject) => {
    last += 1;
    waiting.set(last, { resolve, reject });
    worker.postMessage({ id: last, task, values });
  });
}
