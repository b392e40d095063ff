// The images of the session: which ones the strip shows and in which order, expected classes, and deleting all.

import { byId } from "./dom.js";
import { openImage, forgetImage } from "./images.js";
import { discardOutdated } from "./models.js";
import { firstResult, state } from "./state.js";
import { showStatus } from "./status.js";
import * as store from "./store.js";
import { listedImages, renderStrip } from "./strip.js";
import { text } from "./texts.js";
import { render } from "./workbench.js";

/** Listen to the strip and its controls. */
export function listenToSession() {
  const strip = byId("strip");
  strip.addEventListener("click", (event) => {
    const id = event.target.closest("button")?.dataset.id;
    if (id) openImage(state.images.find((image) => image.id === id));
  });
  strip.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const image = steps && neighbor(steps);
    if (!image) return;
    event.preventDefault();
    openImage(image);
  });
  for (const id of ["strip-order", "strip-label", "strip-from", "strip-to"]) {
    byId(id).addEventListener("input", () => changeOrder());
  }
  byId("expected").addEventListener("change", ({ target: { value } }) => {
    expect(state.image, value);
    renderStrip();
    openImage(state.image);
  });
  byId("strip-delete").addEventListener("click", deleteAll);
  byId("expect").addEventListener("click", () => byId("expected-file").click());
  byId("expected-file").addEventListener("change", async ({ target }) => {
    const [file] = target.files;
    target.value = "";
    if (file) expectFrom(await file.text());
  });
}

/** Load the stored images. */
export async function restoreSession() {
  const known = new Set(state.images.map(({ id }) => id));
  state.images.unshift(...(await store.load()).filter(({ id }) => !known.has(id)));
  discardOutdated();
  render();
}

/** The image that is so many places from the current one in the strip; undefined: there is none. */
function neighbor(steps) {
  const images = listedImages();
  return images[images.indexOf(state.image) + steps];
}

function changeOrder() {
  state.order = byId("strip-order").value;
  state.filter = {
    label: byId("strip-label").value.trim().toLowerCase(),
    from: Number(byId("strip-from").value) / 100,
    to: Number(byId("strip-to").value) / 100,
  };
  renderStrip();
}

async function deleteAll() {
  forgetImage();
  state.images = [];
  await store.clear();
  showStatus(text("strip.deleted"));
  render();
}

/** Take the expected classes from a CSV file with the columns file and label; images that disagree come first. */
export function expectFrom(content) {
  const labels = new Map();
  for (const [file, label] of rows(content)) if (file && label) labels.set(file.split("/").at(-1), label);
  let count = 0;
  for (const image of state.images) {
    const label = labels.get(image.name);
    if (label === undefined) continue;
    expect(image, label);
    count += 1;
  }
  if (count) byId("strip-order").value = "differing";
  changeOrder();
  const [first] = listedImages();
  if (count && first) openImage(first);
  showStatus(text("expected.read", { count, all: state.images.length }));
}

/** Remember which class an image should have; empty: nobody knows. */
export function expect(image, label) {
  const known = firstResult(image)?.response.predictions.find((entry) => String(entry.index) === label);
  image.expected = (known?.label ?? state.description.labels?.[label] ?? label) || undefined;
  store.save(image);
}

/** The cells of a CSV file: separated by commas, in quotes if they contain one. */
export function rows(content) {
  return content.split(/\r?\n/).map((line) => {
    const cells = [...line.matchAll(/(?:^|,)(?:"((?:[^"]|"")*)"|([^,]*))/g)];
    return cells.map(([, quoted, plain]) => (quoted?.replaceAll('""', '"') ?? plain).trim());
  });
}
