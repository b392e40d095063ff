// An image with its map, and the values read from it: at the pointer, the peak, the covered region.

import { element } from "./dom.js";
import { levels, share, valueAt } from "./heatmap.js";
import { paint, scaled } from "./overlay.js";
import { decimal, percent, text } from "./texts.js";

const MAX_HEIGHT = "58vh";
const STEP = 1 / 40;
const STEPS = { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP] };
const FACTS = ["pointer", "peak", "region", "colored"];

/**
 * What a figure shows.
 *
 * @typedef {object} Content
 * @property {string} name of the image
 * @property {ImageData} preview the image, possibly reduced
 * @property {{width: number, height: number, region: number[]}} image size and covered region of the image as sent
 * @property {object | null} explanation from the response; null: none yet
 */

export class Figure {
  /**
   * @param {string} badge label that distinguishes the figure from another one; empty: none
   * @param {string} heading tag of the element that names the class
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
    this.noEvidence = element("p", "no-evidence");
    this.stage.append(this.canvas, this.marks.region, this.marks.peak, this.marks.probe, this.noEvidence);
    const caption = element("figcaption");
    this.facts = element("dl");
    this.terms = {};
    this.values = {};
    for (const name of FACTS) this.facts.append(this.fact(name));
    this.values.pointer.setAttribute("aria-live", "polite");
    caption.append(this.facts);
    this.element.append(top, this.stage, caption);
    this.listen();
  }

  /**
   * @param {Content} content
   * @param {{colormap: string, alpha: number, threshold: number}} display
   */
  show(content, display) {
    const resized = this.content?.explanation !== content.explanation || this.content?.preview !== content.preview;
    this.content = content;
    if (resized) this.resize();
    this.draw(display);
    this.describe();
    this.read();
  }

  /** Remove the image. */
  clear() {
    this.content = this.map = this.probe = undefined;
    this.canvas.width = this.canvas.height = 0;
  }

  /** Draw the same map with other display settings; no request, no resizing. */
  draw(display) {
    const { preview } = this.content;
    paint(this.canvas, preview, this.map, this.region, display);
    this.values.colored.textContent = this.map
      ? text("colored.value", { share: percent(share(this.map, display.threshold), 0) })
      : "–";
  }

  resize() {
    const { preview, image, explanation } = this.content;
    this.region = scaled(image.region, preview.width / image.width);
    const [left, top, right, bottom] = this.region;
    // As wide as the layout permits, but never higher than fits the window.
    this.stage.style.width = `calc(${MAX_HEIGHT} * ${preview.width / preview.height})`;
    this.map = explanation?.evidence ? levels(explanation.heatmap, right - left, bottom - top) : null;
  }

  describe() {
    const { name, image, explanation } = this.content;
    const label = explanation?.label ?? "";
    const evidence = explanation?.evidence;
    const [x, y] = evidence ? explanation.peak : [];
    this.title.textContent = label;
    this.probability.textContent = explanation ? percent(explanation.probability) : "";
    this.noEvidence.textContent = text("evidence.none");
    this.noEvidence.hidden = evidence !== false;
    const key = evidence ? "canvas" : explanation ? "canvas.none" : "canvas.bare";
    this.canvas.setAttribute("aria-label", text(key, { name, label, x, y }));
    this.values.peak.textContent = evidence ? text("peak.value", { x, y }) : "–";
    const [left, top, right, bottom] = image.region;
    const whole = left === 0 && top === 0 && right === image.width && bottom === image.height;
    this.values.region.textContent = whole ? text("region.all") : text("region.part", { left, top, right, bottom });
    this.marks.region.hidden = whole;
    this.place(this.marks.region, left, top, right, bottom);
    this.marks.peak.hidden = !evidence;
    if (evidence) this.place(this.marks.peak, x + 0.5, y + 0.5);
    for (const [fact, term] of Object.entries(this.terms)) term.textContent = text(fact);
  }

  /** Show the map's value at the probe, whose coordinates in the image go from 0 to 1. */
  read() {
    const { image, explanation } = this.content;
    this.marks.probe.hidden = !this.probe;
    if (!this.probe) {
      this.values.pointer.textContent = text("pointer.none");
      return;
    }
    const x = Math.min(image.width - 1, Math.floor(this.probe[0] * image.width));
    const y = Math.min(image.height - 1, Math.floor(this.probe[1] * image.height));
    this.place(this.marks.probe, x + 0.5, y + 0.5);
    const [left, top, right, bottom] = image.region;
    const inside = explanation?.heatmap && x >= left && x < right && y >= top && y < bottom;
    if (!inside) {
      this.values.pointer.textContent = text("pointer.outside");
      return;
    }
    const [u, v] = [(x + 0.5 - left) / (right - left), (y + 0.5 - top) / (bottom - top)];
    const value = decimal(valueAt(explanation.heatmap, u, v));
    this.values.pointer.textContent = text("pointer.value", { value, x, y });
  }

  /** Move a mark to a point or a rectangle of the image as sent. */
  place(mark, left, top, right = left, bottom = top) {
    const { width, height } = this.content.image;
    mark.style.left = `${(100 * left) / width}%`;
    mark.style.top = `${(100 * top) / height}%`;
    mark.style.width = `${(100 * (right - left)) / width}%`;
    mark.style.height = `${(100 * (bottom - top)) / height}%`;
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
    // After a touch the value stays, so that it can be read with the finger lifted.
    this.canvas.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && this.leave());
    this.canvas.addEventListener("blur", () => this.leave());
  }

  move(x, y) {
    this.probe = [Math.min(1, Math.max(0, x)), Math.min(1, Math.max(0, y))];
    if (this.content) this.read();
  }

  leave() {
    this.probe = undefined;
    if (this.content) this.read();
  }

  fact(name) {
    const pair = element("div", name);
    this.terms[name] = element("dt");
    this.values[name] = element("dd");
    pair.append(this.terms[name], this.values[name]);
    return pair;
  }
}

function mark(name) {
  const created = element("span", `mark ${name}-mark`);
  created.setAttribute("aria-hidden", "true");
  return created;
}
