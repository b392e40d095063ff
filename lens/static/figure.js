// An image with its map, and the values read from it: at the pointer, the peak, the covered region.

import { element } from "./dom.js";
import { levels, multiplied, share, valueAt } from "./heatmap.js";
import { Legend } from "./legend.js";
import { meaning } from "./methods.js";
import { paint, scaled } from "./overlay.js";
import { boxes, outline } from "./regions.js";
import { decimal, percent, significant, text } from "./texts.js";

const STEP = 1 / 40;
const STEPS = { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP] };
const FACTS = ["strength", "pointer", "peak", "region", "colored", "boxed"];
// Below this probability a figure says that a strong color does not mean a likely class.
const LOW_PROBABILITY = 0.05;

/**
 * What a figure shows.
 *
 * @typedef {object} Content
 * @property {string} name of the image
 * @property {ImageData} preview the image, possibly reduced
 * @property {{width: number, height: number, region: number[]}} image size and covered region of the image as sent
 * @property {object | null} explanation from the response; null: none yet
 * @property {string} method of the explanation
 * @property {number} strongest strength that has the strongest color
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
    this.low = element("span", "low");
    this.versus = element("span", "versus");
    top.append(this.badge, this.title, this.versus, this.probability, this.low);
    this.stage = element("div", "stage");
    this.canvas = element("canvas");
    this.canvas.tabIndex = 0;
    this.canvas.setAttribute("role", "img");
    this.marks = { region: mark("region"), peak: mark("peak"), probe: mark("probe") };
    this.boxes = element("div", "boxes");
    this.boxes.setAttribute("aria-hidden", "true");
    this.noEvidence = element("p", "no-evidence");
    this.outdated = element("p", "outdated-note");
    this.zoomed = element("div", "zoomed");
    this.zoomed.append(this.canvas, this.boxes, this.marks.region, this.marks.peak, this.marks.probe);
    this.stage.append(this.zoomed, this.noEvidence, this.outdated);
    const caption = element("figcaption");
    this.legend = new Legend();
    this.lowNote = element("p", "low-note");
    this.facts = element("dl");
    this.terms = {};
    this.values = {};
    for (const name of FACTS) this.facts.append(this.fact(name));
    this.values.pointer.setAttribute("aria-live", "polite");
    caption.append(this.legend.element, this.lowNote, this.facts);
    this.element.append(top, this.stage, caption);
    this.listen();
  }

  /**
   * @param {Content} content
   * @param {{colormap: string, alpha: number, threshold: number}} display
   */
  show(content, display) {
    const resized = ["explanation", "preview", "strongest"].some((part) => this.content?.[part] !== content[part]);
    this.content = content;
    this.setOutdated("");
    if (resized) this.resize();
    this.describe();
    this.draw(display);
    this.read();
  }

  /** Mark the map as one of an earlier choice, with a note that says so; an empty one removes the mark. */
  setOutdated(note) {
    this.element.classList.toggle("outdated", note !== "");
    this.outdated.textContent = note;
    this.outdated.hidden = note === "";
  }

  /** Remove the image. */
  clear() {
    this.content = this.grid = this.map = this.probe = undefined;
    this.boxes.replaceChildren();
    this.canvas.width = this.canvas.height = 0;
  }

  /** Draw the same map with other display settings; no request, no resizing. */
  draw(display) {
    const { preview, explanation, method, strongest } = this.content;
    paint(this.canvas, preview, this.map, this.region, display, this.outline(display));
    this.showBoxes(display);
    const colored = this.map ? share(this.map, display.threshold) : 1;
    this.values.colored.textContent = this.map ? text("colored.value", { share: percent(colored, 0) }) : "–";
    this.values.colored.parentElement.hidden = display.threshold === 0;
    this.legend.element.hidden = !this.map;
    if (this.map) this.legend.show(method, explanation.versus, strongest, display);
    const low = explanation !== null && explanation.probability < LOW_PROBABILITY;
    this.low.hidden = this.lowNote.hidden = !low;
    if (!low) return;
    this.low.textContent = text("low");
    const values = { color: text(`strongest.${display.colormap}`), probability: percent(explanation.probability) };
    this.lowNote.textContent = text("low.note", values);
  }

  /** The points of the outline, if it is to be drawn. */
  outline(display) {
    if (!this.map || !display.outline) return [];
    const [left, top, right, bottom] = this.region;
    return outline(this.content.explanation.heatmap, right - left, bottom - top, display.share);
  }

  showBoxes(display) {
    const { explanation, image } = this.content;
    const shown = this.map && display.boxes;
    const found = shown ? boxes(explanation.heatmap, image.region, display.share) : [];
    const marks = found.map(({ box }) => {
      const created = mark("box");
      this.place(created, ...box);
      return created;
    });
    this.boxes.replaceChildren(...marks);
    this.values.boxed.parentElement.hidden = !shown;
    if (!shown) return;
    const [left, top, right, bottom] = found[0].box;
    const part = percent(found[0].area / (image.width * image.height), 0);
    this.values.boxed.textContent = text("boxed.value", { count: found.length, left, top, right, bottom, share: part });
  }

  resize() {
    const { preview, image, explanation, strongest } = this.content;
    this.region = scaled(image.region, preview.width / image.width);
    const [left, top, right, bottom] = this.region;
    // As wide as the layout permits, but never higher than fits the window.
    this.stage.style.width = `calc(var(--map-height) * ${preview.width / preview.height})`;
    const factor = explanation?.evidence ? explanation.strength / strongest : 1;
    this.grid = explanation && multiplied(explanation.heatmap, factor);
    this.map = explanation?.evidence ? levels(this.grid, right - left, bottom - top) : null;
  }

  describe() {
    const { name, image, explanation, method } = this.content;
    const label = explanation?.label ?? "";
    const evidence = explanation?.evidence;
    const against = explanation?.versus;
    const [x, y] = evidence ? explanation.peak : [];
    this.title.textContent = label;
    this.versus.textContent = against ? text("versus.value", { label: against.label }) : "";
    this.versus.hidden = !against;
    this.probability.textContent = explanation ? percent(explanation.probability) : "";
    const shows = meaning(method, against);
    const values = { name, label, x, y, versus: against?.label };
    this.noEvidence.textContent = text(`evidence.${shows}`, values);
    this.noEvidence.hidden = evidence !== false;
    let description = text("canvas.bare", values);
    if (evidence) description = text(`map.${shows}`, values);
    else if (explanation) description = text(`map.none.${shows}`, values);
    this.canvas.setAttribute("aria-label", description);
    this.values.strength.textContent = explanation ? significant(explanation.strength) : "–";
    this.values.peak.textContent = evidence ? text("peak.value", { x, y }) : "–";
    const [left, top, right, bottom] = image.region;
    const whole = left === 0 && top === 0 && right === image.width && bottom === image.height;
    this.values.region.textContent = whole ? text("region.all") : text("region.part", { left, top, right, bottom });
    this.values.region.parentElement.hidden = whole;
    this.marks.region.hidden = whole;
    this.place(this.marks.region, left, top, right, bottom);
    this.marks.peak.hidden = !evidence;
    if (evidence) this.place(this.marks.peak, x + 0.5, y + 0.5);
    for (const [fact, term] of Object.entries(this.terms)) term.textContent = text(fact);
  }

  /** Show the map's value at the probe, whose coordinates in the image go from 0 to 1. */
  read() {
    const { image } = this.content;
    this.marks.probe.hidden = !this.probe;
    if (!this.probe) {
      const touch = matchMedia("(hover: none)").matches;
      this.values.pointer.textContent = text(touch ? "pointer.touch" : "pointer.none");
      return;
    }
    const x = Math.min(image.width - 1, Math.floor(this.probe[0] * image.width));
    const y = Math.min(image.height - 1, Math.floor(this.probe[1] * image.height));
    this.place(this.marks.probe, x + 0.5, y + 0.5);
    const [left, top, right, bottom] = image.region;
    const inside = this.grid && x >= left && x < right && y >= top && y < bottom;
    if (!inside) {
      this.values.pointer.textContent = text("pointer.outside");
      return;
    }
    const [u, v] = [(x + 0.5 - left) / (right - left), (y + 0.5 - top) / (bottom - top)];
    const value = decimal(valueAt(this.grid, u, v));
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
