// The controls of how maps are drawn, the same on the page and in a report: opacity, threshold, colours, and the scale.

import { COLORMAPS } from "./colormaps.js";
import { element } from "./figure.js";
import { LOOK, paintScale } from "./overlay.js";
import { percent, text } from "./texts.js";

const STORED = "lens.look";
const CONTROLS = ["alpha", "threshold", "colormap"];

const at = (id) => document.getElementById(id);

export class Look {
  /** @param {() => void} draw called when the person has changed something, at most once a frame */
  constructor(draw) {
    this.value = { ...LOOK, ...stored() };
    this.frame = 0;
    for (const name of CONTROLS) at(name).addEventListener("input", () => this.change(draw));
  }

  /** Shows the controls as they stand, in the language of the moment. */
  render() {
    const { alpha, threshold, colormap } = this.value;
    at("colormap").replaceChildren(...Object.keys(COLORMAPS).map((name) => option(name, text(`colormap.${name}`))));
    for (const name of CONTROLS) at(name).value = this.value[name];
    at("colormap").value = colormap;
    at("alpha-value").textContent = percent(alpha, 0);
    at("threshold-value").textContent = percent(threshold, 0);
    paintScale(at("scale"), this.value);
  }

  change(draw) {
    this.value = { alpha: Number(at("alpha").value), threshold: Number(at("threshold").value), colormap: at("colormap").value };
    try {
      localStorage.setItem(STORED, JSON.stringify(this.value));
    } catch {
      // A page from disk, or a browser that keeps nothing.
    }
    cancelAnimationFrame(this.frame);
    this.frame = requestAnimationFrame(() => {
      this.render();
      draw();
    });
  }
}

/** An entry of a list to choose from. */
export function option(value, said) {
  const made = element("option", "", said);
  made.value = value;
  return made;
}

function stored() {
  try {
    const read = JSON.parse(localStorage.getItem(STORED));
    return read?.colormap in COLORMAPS ? read : {};
  } catch {
    return {};
  }
}
