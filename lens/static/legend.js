// What the colors of a map mean: the numbers of its color scale, and what the strongest color stands for.

import { element } from "./dom.js";
import { meaning } from "./methods.js";
import { paintScale } from "./overlay.js";
import { significant, text } from "./texts.js";

/** A sentence that says what the strongest color of a map stands for; `versus` is the class of a contrast. */
export function legendText(method, versus, colormap, strongest) {
  const values = { color: text(`strongest.${colormap}`), strength: significant(strongest), versus: versus?.label };
  return text(`legend.${meaning(method, versus)}`, values);
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
   * @param {object | undefined} versus class of a contrast
   * @param {number} strongest strength that has the strongest color
   * @param {{colormap: string, threshold: number}} display
   */
  show(method, versus, strongest, display) {
    const strength = significant(strongest);
    this.highest.textContent = strength;
    this.canvas.setAttribute("aria-label", text("scale", { strength }));
    this.sentence.textContent = legendText(method, versus, display.colormap, strongest);
    paintScale(this.canvas, display);
  }
}
