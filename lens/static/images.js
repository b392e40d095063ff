// Opening an image: decoding it for the figures, and having it classified and explained.

import * as api from "./api.js";
import * as background from "./background.js";
import { complete, requestExplanations } from "./explanations.js";
import { connect, selectModel } from "./models.js";
import { keyOf, state } from "./state.js";
import { hideError, showBusy } from "./status.js";
import { run } from "./tasks.js";
import { text } from "./texts.js";
import { figures, render } from "./workbench.js";

// Classes that are explained with the first request of an image: they share one forward pass.
const EXPLAINED = 5;
// Bytes that a form adds to its file, at most.
const FORM_BYTES = 4096;
const MEGABYTE = 2 ** 20;

/** An image that cannot be explained. */
class ImageError extends Error {
  constructor(name, message) {
    super(message);
    this.image = name;
  }
}

/** Have an image classified and explained. Nothing of an earlier image stays visible. */
export function openImage(file, name = file.name) {
  state.image = { name, file, drawable: file, preview: undefined };
  forgetResults();
  hideError();
  run(examine);
}

function forgetResults() {
  if (state.image) state.image.preview = undefined;
  state.results = [];
  for (const view of state.views) view.target = undefined;
  for (const figure of figures) figure.clear();
  render();
}

export function openSample(name) {
  forgetResults();
  hideError();
  run(async (signal) => {
    const file = await api.sample(name);
    signal.throwIfAborted();
    openImage(file);
  });
}

/** Switch to a model, and explain the image with it. */
export function changeModel(model) {
  run(async (signal) => {
    const selecting = selectModel(model);
    forgetResults();
    await selecting;
    signal.throwIfAborted();
    if (state.image) await examine(signal);
  });
}

/** Decode and explain the image, or show nothing but the reason why that is impossible. */
async function examine(signal) {
  const { image } = state;
  try {
    checkSize(image);
    showBusy(text("working", { name: image.name }));
    if (!state.model) await connect();
    await explain(image, signal);
  } catch (error) {
    if (signal.aborted || error.unavailable) throw error;
    forgetResults();
    throw new ImageError(image.name, error.message);
  }
}

function checkSize({ file }) {
  const limit = state.overview.max_body_bytes - FORM_BYTES;
  if (file.size <= limit) return;
  const [size, maximum] = [file.size, limit].map((bytes) => (bytes / MEGABYTE).toFixed(1));
  throw new Error(text("error.too_large", { size, limit: maximum }));
}

async function explain(image, signal) {
  const decoding = decode(image, signal);
  const explaining = requestExplanations(state.views[0], { explain: String(explainedCount()) }, signal);
  // The image must not appear after its error.
  const [first] = await Promise.all([explaining, decoding]).finally(() => decoding);
  state.results.push(first);
  if (!image.preview) await decodeOnServer(image, signal);
  signal.throwIfAborted();
  const [best, second] = first.response.predictions;
  const [left, right] = state.views;
  left.target = best.index;
  right.target = keyOf(left) === keyOf(right) ? (second ?? best).index : best.index;
  await complete(signal);
}

function explainedCount() {
  return Math.min(EXPLAINED, state.description.labels?.length || EXPLAINED);
}

/** Decode the image in the browser, and show it before it is explained. */
async function decode(image, signal) {
  const decoded = await background.preview(image.file).catch(() => null);
  if (signal.aborted || decoded === null || decoded.transparent) return;
  image.preview = decoded.image;
  render();
}

/** Have the server decode what the browser cannot, or would show differently: request a fully transparent overlay. */
async function decodeOnServer(image, signal) {
  const options = { explain: "1", topk: "1", heatmap: "none", overlay: "png", alpha: "0" };
  const { explanations } = await api.predict(state.model, image.file, options, signal);
  const bytes = atob(explanations[0].overlay.split(",")[1]);
  image.drawable = new Blob([Uint8Array.from(bytes, (character) => character.charCodeAt(0))], { type: "image/png" });
  const decoded = await background.preview(image.drawable).catch(() => null);
  if (decoded === null) throw new Error(text("error.unreadable"));
  image.preview = decoded.image;
}
