// The images of the session that wait: each is explained while the user looks at another one.

import * as background from "./background.js";
import { explainFirst } from "./explanations.js";
import { checkSize } from "./records.js";
import { emptyView, firstResult, state } from "./state.js";
import * as store from "./store.js";
import { renderStrip } from "./strip.js";
import { available } from "./tasks.js";

let draining = false;

/** Explain all images that wait, one at a time. */
export async function drain() {
  if (draining) return;
  draining = true;
  try {
    for (let image = waiting(); image; image = waiting()) await explain(image);
  } finally {
    draining = false;
  }
}

function waiting() {
  return state.images.find((image) => image !== state.image && !image.error && !firstResult(image));
}

async function explain(image) {
  try {
    checkSize(image);
    await explainFirst(image, emptyView());
    image.thumbnail ??= await background.thumbnail(image.file).catch(() => undefined);
  } catch (error) {
    if (error.unavailable) await available();
    else image.error = error.message;
  }
  if (state.images.includes(image)) store.save(image);
  renderStrip();
}
