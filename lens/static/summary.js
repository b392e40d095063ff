// The summary of a report: counts, agreement, the distribution of probabilities, and the classes with their mean maps.

import { byId, element } from "./dom.js";
import { levels } from "./heatmap.js";
import { paint } from "./overlay.js";
import { decimal, percent, text } from "./texts.js";

const BINS = 10;
// Classes that are listed; reports on ImageNet have hundreds.
const LISTED = 30;
// Pixels per side of a mean map.
const SIDE = 72;

/**
 * Show the summary of all cards.
 *
 * @param {import("./card.js").Card[]} cards
 * @param {number} errors images that were not explained
 * @param {{colormap: string}} display
 */
export function renderSummary(cards, errors, display) {
  const classes = classesOf(cards);
  const probabilities = cards.map(({ best }) => best.probability).sort((a, b) => a - b);
  const sentences = [
    text("summary.count", { count: cards.length, errors, classes: classes.length }),
    cards.length > 0 && text("summary.median", { median: percent(median(probabilities)) }),
    agreement(cards),
    versions(cards),
  ];
  byId("sentences").replaceChildren(...sentences.filter(Boolean).map((sentence) => element("li", "", sentence)));
  byId("histogram").replaceChildren(...bins(probabilities).map((count, bin) => binRow(count, bin, cards.length)));
  byId("class-rows").replaceChildren(...classes.slice(0, LISTED).map((entry) => classRow(entry, display)));
  byId("classes-more").textContent = text("summary.more", { count: classes.length - LISTED });
  byId("classes-more").hidden = classes.length <= LISTED;
}

/** The median of sorted numbers. */
export function median(sorted) {
  const middle = (sorted.length - 1) / 2;
  return (sorted[Math.floor(middle)] + sorted[Math.ceil(middle)]) / 2;
}

/** How many of the probabilities are in each tenth; 1 belongs to the last one. */
export function bins(probabilities) {
  const counts = new Array(BINS).fill(0);
  for (const value of probabilities) counts[Math.min(BINS - 1, Math.floor(value * BINS))] += 1;
  return counts;
}

/** The predicted classes with their cards, the most frequent first. */
function classesOf(cards) {
  const groups = new Map();
  for (const card of cards) {
    const { label } = card.best;
    if (!groups.has(label)) groups.set(label, { label, cards: [] });
    groups.get(label).cards.push(card);
  }
  return [...groups.values()].sort((a, b) => b.cards.length - a.cards.length || a.label.localeCompare(b.label));
}

function agreement(cards) {
  const known = cards.filter(({ entry }) => entry.expected !== undefined);
  if (!known.length) return "";
  const right = known.filter((card) => !card.disagrees).length;
  return text("summary.expected", { right, known: known.length, share: percent(right / known.length) });
}

function versions(cards) {
  const pairs = cards.filter(({ entry }) => entry.other);
  if (!pairs.length) return "";
  const same = pairs.filter((card) => !card.disagrees).length;
  const cosines = pairs.map(({ entry }) => entry.cosine).filter((cosine) => typeof cosine === "number");
  const mean = cosines.reduce((sum, cosine) => sum + cosine, 0) / cosines.length;
  return text("summary.versions", { same, pairs: pairs.length, cosine: cosines.length ? decimal(mean) : "–" });
}

function binRow(count, bin, all) {
  const row = element("li");
  const track = element("span", "bar");
  const length = element("span", "length");
  length.style.width = `${(100 * count) / Math.max(1, all)}%`;
  track.append(length);
  const range = text("summary.bin", { from: (100 / BINS) * bin, to: (100 / BINS) * (bin + 1) });
  row.append(element("span", "range", range), track, element("span", "count", String(count)));
  return row;
}

function classRow({ label, cards }, display) {
  const row = element("tr");
  const name = element("button", "class-filter", label);
  name.type = "button";
  name.dataset.label = label;
  const heading = element("th");
  heading.scope = "row";
  heading.append(name);
  const mean = cards.reduce((sum, { best }) => sum + best.probability, 0) / cards.length;
  const map = element("td");
  const maps = mapsOf(cards);
  if (maps.length) map.append(meanMap(label, maps, display));
  row.append(heading, element("td", "", String(cards.length)), element("td", "", percent(mean)), map);
  return row;
}

/** The maps of the cards' predicted classes; only those with evidence, and with the same grid as the first. */
function mapsOf(cards) {
  const maps = cards.flatMap(({ entry, best }) => {
    const explanation = entry.explanations.find(({ index }) => index === best.index);
    return explanation?.evidence && explanation.heatmap ? [explanation.heatmap] : [];
  });
  return maps.filter((map) => map.length === maps[0].length && map[0].length === maps[0][0].length);
}

function meanMap(label, maps, display) {
  const canvas = element("canvas", "mean-map");
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", text("summary.map", { label, count: maps.length }));
  const background = new ImageData(new Uint8ClampedArray(4 * SIDE * SIDE).fill(255), SIDE, SIDE);
  const region = [0, 0, SIDE, SIDE];
  paint(canvas, background, levels(mean(maps), SIDE, SIDE), region, { ...display, alpha: 1, threshold: 0 });
  return canvas;
}

/** The mean of maps with the same grid. */
export function mean(maps) {
  return maps[0].map((row, y) => row.map((_, x) => maps.reduce((sum, map) => sum + map[y][x], 0) / maps.length));
}
