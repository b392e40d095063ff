// The images of the session as records, before they are shown.

import { state } from "./state.js";
import { text } from "./texts.js";

// Bytes that a form adds to its file, at most.
const FORM_BYTES = 4096;
const MEGABYTE = 2 ** 20;

let lastAdded = 0;

/**
 * A new image of the session.
 *
 * @param {File} file
 * @returns {import("./state.js").ImageRecord}
 */
export function newRecord(file) {
  lastAdded = Math.max(Date.now(), lastAdded + 1);
  const id = lastAdded.toString(36);
  return { id, name: file.name, file, drawable: file, added: lastAdded, results: [], error: "" };
}

/** Reject an image that the server would reject for its size. */
export function checkSize({ file }) {
  const limit = state.overview.max_body_bytes - FORM_BYTES;
  if (file.size <= limit) return;
  const [size, maximum] = [file.size, limit].map((bytes) => (bytes / MEGABYTE).toFixed(1));
  throw new Error(text("error.too_large", { size, limit: maximum }));
}
