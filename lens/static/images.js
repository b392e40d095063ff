// Opening images: decoding one for the figures, and having it classified and explained.

import * as api from "./api.js";
import * as background from "./background.js";
import { complete, explainFirst } from "./explanations.js";
import { connect, selectModel } from "./models.js";
import { drain } from "./queue.js";
import { checkSize, newRecord } from "./records.js";
import { change, disagrees, firstResult, keyOf, state } from "./state.js";
import { clearLink } from "./links.js";
import { hideError, showBusy } from "./status.js";
import * as store from "./store.js";
import { renderStrip } from "./strip.js";
import { isCanceled, run } from "./tasks.js";
import { text } from "./texts.js";
import { difference, figures, render } from "./workbench.js";
import { resetZoom } from "./zoom.js";

/** An image that cannot be explained. */
class ImageError extends Error {
  constructor(name, message) {
    super(message);
    this.image = name;
  }
}

/** Add files to the session and show the first of them; the others are explained one after another. */
export function openFiles(files) {
  const added = [...files].map((file) => newRecord(file));
  if (!added.length) return;
  state.images.push(...added);
  openImage(added[0]);
}

/**
 * Show an image of the session. Nothing of an earlier image stays visible.
 *
 * @param {import("./state.js").ImageRecord} image
 * @param {object} [view] what to show of it; without one its most probable class
 */
export function openImage(image, view) {
  releasePixels();
  state.image = image;
  hideImage();
  clearLink();
  hideError();
  run((signal) => examine(signal, view)).then(drain);
}

export function openSample(name) {
  forgetImage();
  hideError();
  run(async (signal) => {
    showBusy(text("working", { name }));
    const file = await api.sample(name);
    signal.throwIfAborted();
    openFiles([file]);
  });
}

/** Switch to a model, and explain the image with it. */
export function changeModel(model) {
  run(async (signal) => {
    const selecting = selectModel(model);
    for (const image of state.images) image.error = "";
    hideImage();
    await selecting;
    signal.throwIfAborted();
    if (state.image) await examine(signal);
  }).then(drain);
}

/** Remove the image from the page; it stays in the session. */
export function forgetImage() {
  releasePixels();
  state.image = null;
  hideImage();
  clearLink();
}

function releasePixels() {
  if (state.image) Object.assign(state.image, { preview: undefined, drawable: state.image.file });
}

function hideImage() {
  releasePixels();
  state.shown = [];
  for (const view of state.views) Object.assign(view, { target: undefined, versus: undefined });
  for (const figure of figures) figure.clear();
  difference.hide();
  resetZoom();
  render();
}

/** Decode and explain the image, or show nothing but the reason why that is impossible. */
async function examine(signal, view) {
  const { image } = state;
  image.error = "";
  renderStrip();
  try {
    checkSize(image);
    showBusy(text("working", { name: image.name }));
    if (!state.model) await connect();
    await explain(image, signal, view);
  } catch (error) {
    if (signal.aborted ? !isCanceled(signal) : error.unavailable) throw error;
    image.error = isCanceled(signal) ? text("canceled") : error.message;
    hideImage();
    throw new ImageError(image.name, error.message);
  } finally {
    if (state.images.includes(image)) store.save(image);
    renderStrip();
  }
}

async function explain(image, signal, view) {
  const decoding = decode(image, signal);
  // The image must not appear after its error.
  await Promise.all([firstResult(image) ?? explainFirst(image, state.views[0], signal), decoding]).finally(() => decoding);
  if (!image.preview) await decodeOnServer(image, signal);
  signal.throwIfAborted();
  image.thumbnail ??= await background.thumbnail(image.drawable).catch(() => undefined);
  const [best, second] = firstResult(image).response.predictions;
  const [left, right] = state.views;
  left.target = best.index;
  right.target = keyOf(left) === keyOf(right) ? (second ?? best).index : best.index;
  pairExpected(image, right);
  if (view) change(left, { target: best.index, ...view });
  await complete(signal);
}

/** Compare the predicted with the expected class where they differ, and stop where they do not. */
function pairExpected(image, right) {
  const wrong = disagrees(image);
  if (wrong || state.pairing) Object.assign(state, { comparing: wrong, pairing: wrong, active: 0 });
  if (!wrong) return;
  const index = state.description.labels?.indexOf(image.expected) ?? -1;
  change(right, { ...state.views[0], target: index < 0 ? image.expected : index });
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
