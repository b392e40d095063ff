// A picture with its map, and what can be read off it: the value under the pointer, the peak, the covered region.

import { levels, share, valueAt } from "./heatmap.js";
import { paint, scaled } from "./overlay.js";
import { decimal, percent, text } from "./texts.js";

const TALLEST = "58vh";
const STEP = 1 / 40;
const STEPS = { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP] };

/**
 * What a figure shows.
 *
 * @typedef {object} Shown
 * @property {string} name of the picture
 * @property {ImageData} picture a copy of it that may be smaller
 * @property {{width: number, height: number, region: number[]}} image the picture as sent
 * @property {object | null} explanation as the server gives it; null: none yet
 */

export class Figure {
  /**
   * @param {string} badge what the figure is called beside another; empty for nothing
   * @param {string} heading the element that names the class
   */
  constructor(badge, heading = "h2") {
    this.element = element("figure", "view");
    this.title = element(heading, "class-name");
    this.probability = element("span", "probability");
    this.badge = element("span", "badge", badge);
    const top = element("div", "heading");
    top.append(this.badge, this.title, this.probability);
    this.stage = element("div", "stage");
    this.canvas = element("canvas");
    this.canvas.tabIndex = 0;
    this.canvas.setAttribute("role", "img");
    this.marks = { region: mark("region"), peak: mark("peak"), probe: mark("probe") };
    this.none = element("p", "no-evidence");
    this.stage.append(this.canvas, this.marks.region, this.marks.peak, this.marks.probe, this.none);
    const caption = element("figcaption");
    this.facts = element("dl");
    this.values = {};
    for (const name of ["here", "peak", "region", "shown"]) this.facts.append(this.fact(name));
    this.values.here.setAttribute("aria-live", "polite");
    caption.append(this.facts);
    this.element.append(top, this.stage, caption);
    this.listen();
  }

  /**
   * @param {Shown} shown
   * @param {{colormap: string, alpha: number, threshold: number}} look
   */
  show(shown, look) {
    const resized = this.shown?.explanation !== shown.explanation || this.shown?.picture !== shown.picture;
    this.shown = shown;
    if (resized) this.resize();
    this.draw(look);
    this.describe();
    this.read();
  }

  /** Forgets the picture. */
  clear() {
    this.shown = this.map = this.probe = undefined;
    this.canvas.width = this.canvas.height = 0;
  }

  /** Draws anew in another look; no request, no resizing. */
  draw(look) {
    const { picture } = this.shown;
    paint(this.canvas, picture, this.map, this.region, look);
    this.values.shown.textContent = this.map ? text("shown.value", { share: percent(share(this.map, look.threshold), 0) }) : "–";
  }

  resize() {
    const { picture, image, explanation } = this.shown;
    this.region = scaled(image.region, picture.width / image.width);
    const [left, top, right, bottom] = this.region;
    // As wide as there is room, but never higher than the window lets one see at once.
    this.stage.style.width = `calc(${TALLEST} * ${picture.width / picture.height})`;
    this.map = explanation?.evidence ? levels(explanation.heatmap, right - left, bottom - top) : null;
  }

  describe() {
    const { name, image, explanation } = this.shown;
    const label = explanation?.label ?? "";
    const found = explanation?.evidence;
    const [x, y] = found ? explanation.peak : [];
    this.title.textContent = label;
    this.probability.textContent = explanation ? percent(explanation.probability) : "";
    this.none.textContent = text("evidence.none");
    this.none.hidden = found !== false;
    const said = found ? "canvas" : explanation ? "canvas.none" : "canvas.bare";
    this.canvas.setAttribute("aria-label", text(said, { name, label, x, y }));
    this.values.peak.textContent = found ? text("peak.value", { x, y }) : "–";
    const [left, top, right, bottom] = image.region;
    const all = left === 0 && top === 0 && right === image.width && bottom === image.height;
    this.values.region.textContent = all ? text("region.all") : text("region.part", { left, top, right, bottom });
    this.marks.region.hidden = all;
    this.put(this.marks.region, left, top, right, bottom);
    this.marks.peak.hidden = !found;
    if (found) this.put(this.marks.peak, x + 0.5, y + 0.5);
    for (const [fact, term] of Object.entries(this.terms)) term.textContent = text(fact);
  }

  /** Says what is under the probe, a place of the picture from 0 to 1. */
  read() {
    const { image, explanation } = this.shown;
    this.marks.probe.hidden = !this.probe;
    if (!this.probe) {
      this.values.here.textContent = text("here.none");
      return;
    }
    const x = Math.min(image.width - 1, Math.floor(this.probe[0] * image.width));
    const y = Math.min(image.height - 1, Math.floor(this.probe[1] * image.height));
    this.put(this.marks.probe, x + 0.5, y + 0.5);
    const [left, top, right, bottom] = image.region;
    const inside = explanation?.heatmap && x >= left && x < right && y >= top && y < bottom;
    const value = inside && valueAt(explanation.heatmap, (x + 0.5 - left) / (right - left), (y + 0.5 - top) / (bottom - top));
    this.values.here.textContent = inside ? text("here.value", { value: decimal(value), x, y }) : text("here.outside");
  }

  /** Puts a mark on a place or a rectangle of the picture as sent. */
  put(at, left, top, right = left, bottom = top) {
    const { width, height } = this.shown.image;
    at.style.left = `${(100 * left) / width}%`;
    at.style.top = `${(100 * top) / height}%`;
    at.style.width = `${(100 * (right - left)) / width}%`;
    at.style.height = `${(100 * (bottom - top)) / height}%`;
  }

  listen() {
    const point = (event) => {
      const { left, top, width, height } = this.canvas.getBoundingClientRect();
      this.move((event.clientX - left) / width, (event.clientY - top) / height);
    };
    this.canvas.addEventListener("pointermove", point);
    this.canvas.addEventListener("pointerdown", point);
    this.canvas.addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.leave();
      if (!(event.key in STEPS)) return;
      event.preventDefault();
      const [dx, dy] = STEPS[event.key];
      const [x, y] = this.probe ?? [0.5 - dx, 0.5 - dy];
      this.move(x + dx, y + dy);
    });
    // A finger that is lifted has read nothing yet.
    this.canvas.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && this.leave());
    this.canvas.addEventListener("blur", () => this.leave());
  }

  move(x, y) {
    this.probe = [Math.min(1, Math.max(0, x)), Math.min(1, Math.max(0, y))];
    if (this.shown) this.read();
  }

  leave() {
    this.probe = undefined;
    if (this.shown) this.read();
  }

  fact(name) {
    const pair = element("div", name);
    this.terms = { ...this.terms, [name]: element("dt") };
    this.values[name] = element("dd");
    pair.append(this.terms[name], this.values[name]);
    return pair;
  }
}

/** A new element, with a class and a text where these are given. */
export function element(tag, name = "", content = "") {
  const made = document.createElement(tag);
  if (name) made.className = name;
  if (content) made.textContent = content;
  return made;
}

function mark(name) {
  const made = element("span", `mark ${name}-mark`);
  made.setAttribute("aria-hidden", "true");
  return made;
}
