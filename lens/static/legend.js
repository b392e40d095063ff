// What the colors of a map mean: the numbers of its color scale, and what the strongest color stands for.

import { element } from "./dom.js";
import { paintScale } from "./overlay.js";
import { significant, text } from "./texts.js";

// The others show evidence for the class.
const MEANINGS = { counterfactual: "against", eigencam: "any" };

/** What a method's map shows: evidence "for" or "against" the class, or "any" part that stands out. */
export function meaning(method) {
  return MEANINGS[method] ?? "for";
}

/** A sentence that says what the strongest color of a map stands for. */
export function legendText(method, colormap, strongest) {
  const color = text(`strongest.${colormap}`);
  return text(`legend.${meaning(method)}`, { color, strength: significant(strongest) });
}

/** A color scale from 0 to the strength that has the strongest color. */
export class Legend {
  constructor() {
    this.element = element("div", "legend");
    this.canvas = element("canvas");
    this.canvas.setAttribute("role", "img");
    this.highest = element("span", "highest");
    this.sentence = element("p", "hint");
    const scale = element("div", "scale");
    scale.append(element("span", "", "0"), this.canvas, this.highest);
    this.element.append(scale, this.sentence);
  }

  /**
   * @param {string} method of the map
   * @param {number} strongest strength that has the strongest color
   * @param {{colormap: string, threshold: number}} display
   */
  show(method, strongest, display) {
    const strength = significant(strongest);
    this.highest.textContent = strength;
    this.canvas.setAttribute("aria-label", text("scale", { strength }));
    this.sentence.textContent = legendText(method, display.colormap, strongest);
    paintScale(this.canvas, display);
  }
}
