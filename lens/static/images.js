// Opening an image: decoding it for the figures, and having it classified and explained.

import * as api from "./api.js";
import * as background from "./background.js";
import { complete, requestExplanations } from "./explanations.js";
import { connect, selectModel } from "./models.js";
import { keyOf, state } from "./state.js";
import { hideError, showBusy, showError } from "./status.js";
import { run } from "./tasks.js";
import { text } from "./texts.js";
import { figures, render } from "./workbench.js";

// Classes that are explained with the first request of an image: they share one forward pass.
const EXPLAINED = 5;
// Bytes that a form adds to its file, at most.
const FORM_BYTES = 4096;
const MEGABYTE = 2 ** 20;

/** Have an image classified and explained. */
export function openImage(file, name = file.name) {
  const limit = state.overview.max_body_bytes - FORM_BYTES;
  if (file.size > limit) {
    const [size, maximum] = [file.size, limit].map((bytes) => (bytes / MEGABYTE).toFixed(1));
    showError(new Error(text("error.too_large", { name, size, limit: maximum })));
    return;
  }
  state.image = { name, file, drawable: file, preview: undefined };
  state.results = [];
  for (const view of state.views) view.target = undefined;
  for (const figure of figures) figure.clear();
  hideError();
  run(examine);
}

export function openSample(name) {
  run(async () => openImage(await api.sample(name)));
}

/** Switch to a model, and explain the image with it. */
export function changeModel(model) {
  run(async (signal) => {
    await selectModel(model);
    signal.throwIfAborted();
    if (state.image) await examine(signal);
  });
}

/** Decode and explain the image. */
async function examine(signal) {
  const { image } = state;
  showBusy(text("working", { name: image.name }));
  if (!state.model) await connect();
  const decoding = decode(image, signal);
  const first = await requestExplanations(state.views[0], { explain: String(explainedCount()) }, signal);
  state.results.push(first);
  await decoding;
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
