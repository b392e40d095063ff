// The difference of two maps on their image: orange where the first one is stronger, blue where the second one is.

import { element } from "./dom.js";
import { enlarged } from "./heatmap.js";
import { scaled } from "./overlay.js";
import { significant, text } from "./texts.js";

// Color-blind people tell these apart.
const FIRST = [230, 120, 0];
const SECOND = [0, 90, 200];
// Opacity of the largest difference.
const OPACITY = 0.85;

/** A figure with the difference of the maps of two others. */
export class DifferenceFigure {
  constructor() {
    this.element = element("figure", "view difference");
    this.title = element("h2", "class-name");
    this.canvas = element("canvas");
    this.canvas.setAttribute("role", "img");
    this.stage = element("div", "stage");
    const zoomed = element("div", "zoomed");
    zoomed.append(this.canvas);
    this.stage.append(zoomed);
    this.caption = element("figcaption", "hint");
    const top = element("div", "heading");
    top.append(this.title);
    this.element.append(top, this.stage, this.caption);
    this.element.hidden = true;
  }

  /**
   * @param {ImageData} preview
   * @param {{width: number, height: number, region: number[]}} image size and covered region of the image as sent
   * @param {object[]} explanations of the two figures
   * @param {boolean} comparable whether their strengths have the same unit; otherwise each map counts by its share
   */
  show(preview, image, explanations, comparable) {
    const [left, top, right, bottom] = scaled(image.region, preview.width / image.width);
    const [first, second] = explanations.map(({ heatmap }) => enlarged(heatmap, right - left, bottom - top));
    const [a, b] = explanations.map(({ strength }) => (comparable ? strength : 1));
    let largest = 0;
    for (let at = 0; at < first.length; at += 1) largest = Math.max(largest, Math.abs(a * first[at] - b * second[at]));
    const pixels = new Uint8ClampedArray(preview.data);
    for (let y = top, from = 0; y < bottom; y += 1) {
      for (let x = left; x < right; x += 1, from += 1) {
        const difference = largest && (a * first[from] - b * second[from]) / largest;
        tint(pixels, 4 * (y * preview.width + x), difference);
      }
    }
    [this.canvas.width, this.canvas.height] = [preview.width, preview.height];
    this.canvas.getContext("2d").putImageData(new ImageData(pixels, preview.width, preview.height), 0, 0);
    this.stage.style.width = `calc(var(--map-height) * ${preview.width / preview.height})`;
    this.title.textContent = text("difference");
    const key = comparable ? "difference.strength" : "difference.share";
    this.caption.textContent = text(key, { largest: significant(largest) });
    this.canvas.setAttribute("aria-label", this.caption.textContent);
    this.element.hidden = false;
  }

  hide() {
    this.element.hidden = true;
    this.canvas.width = this.canvas.height = 0;
  }
}

/** Blend a color into a pixel by a difference from -1 to 1. */
function tint(pixels, at, difference) {
  const color = difference > 0 ? FIRST : SECOND;
  const share = OPACITY * Math.abs(difference);
  for (let channel = 0; channel < 3; channel += 1) {
    pixels[at + channel] = pixels[at + channel] * (1 - share) + color[channel] * share;
  }
}
