// The strip of all images of the session, each with what the network predicts.

import { byId, element } from "./dom.js";
import { disagrees, predictionOf, state } from "./state.js";
import { percent, text } from "./texts.js";

// Images that are shown at once, so that hundreds of them need no more memory of the page.
const SHOWN = 24;

/** Canvases of the thumbnails in the strip, by the image's id. */
const canvases = new Map();

const probability = (image) => predictionOf(image)?.probability ?? 2;

const ORDERS = {
  added: () => 0,
  differing: (a, b) => disagrees(b) - disagrees(a),
  label: (a, b) => (predictionOf(a)?.label ?? "~").localeCompare(predictionOf(b)?.label ?? "~"),
  least: (a, b) => probability(a) - probability(b),
  most: (a, b) => (predictionOf(b)?.probability ?? -1) - (predictionOf(a)?.probability ?? -1),
};

/** The images that the filter leaves, in the chosen order. */
export function listedImages() {
  const { label, from, to } = state.filter;
  const kept = state.images.filter((image) => {
    const prediction = predictionOf(image);
    if (!prediction) return label === "" && from === 0 && to === 1;
    return prediction.label.toLowerCase().includes(label) && prediction.probability >= from && prediction.probability <= to;
  });
  return kept.sort(ORDERS[state.order]);
}

/** Show the images around the current one. */
export function renderStrip() {
  const { image, images } = state;
  const shows = images.length > 1 || (images.length === 1 && !image);
  document.body.classList.toggle("several", shows);
  byId("session").hidden = !shows;
  if (!shows) {
    byId("strip").replaceChildren();
    return;
  }
  const listed = listedImages();
  const current = listed.indexOf(image);
  const first = Math.max(0, Math.min(current - SHOWN / 2, listed.length - SHOWN));
  const shown = listed.slice(first, first + SHOWN);
  forgetOthers(shown);
  const focused = byId("strip").contains(document.activeElement);
  byId("strip").replaceChildren(...shown.map(entry));
  const counts = { position: current + 1, count: listed.length, all: images.length };
  byId("strip-count").textContent = text(current < 0 ? "strip.all" : "strip.count", counts);
  byId("strip-order").querySelector("[value=differing]").hidden = !images.some(({ expected }) => expected !== undefined);
  const button = byId("strip").querySelector("[aria-current]");
  if (focused) button?.focus();
  else button?.scrollIntoView({ block: "nearest", inline: "nearest" });
}

function entry(image) {
  const button = element("button", image.error || disagrees(image) ? "failed" : "");
  button.type = "button";
  button.dataset.id = image.id;
  button.title = image.name;
  if (image === state.image) button.setAttribute("aria-current", "true");
  button.append(thumbnail(image), element("span", "name", image.name), element("span", "verdict", verdict(image)));
  const item = element("li");
  item.append(button);
  return item;
}

function thumbnail(image) {
  if (!image.thumbnail) return element("span", "thumbnail");
  if (!canvases.has(image.id)) canvases.set(image.id, drawn(image.thumbnail));
  return canvases.get(image.id);
}

/** A canvas that shows a small image once it is decoded. */
function drawn(blob) {
  const canvas = element("canvas", "thumbnail");
  createImageBitmap(blob).then((bitmap) => {
    [canvas.width, canvas.height] = [bitmap.width, bitmap.height];
    canvas.getContext("2d").drawImage(bitmap, 0, 0);
    bitmap.close();
  });
  return canvas;
}

/** The predicted class, or why there is none. */
function verdict(image) {
  if (image.error) return text("strip.failed");
  const prediction = predictionOf(image);
  if (!prediction) return text("strip.waiting");
  const said = `${prediction.label} ${percent(prediction.probability)}`;
  return disagrees(image) ? text("strip.differs", { said, expected: image.expected }) : said;
}

function forgetOthers(shown) {
  const kept = new Set(shown.map(({ id }) => id));
  for (const id of canvases.keys()) if (!kept.has(id)) canvases.delete(id);
}
