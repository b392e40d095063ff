// The controls of how maps are drawn, shared by page and report: opacity, threshold, and colors.

import { COLORMAPS } from "./colormaps.js";
import { byId, option } from "./dom.js";
import { DEFAULT_DISPLAY } from "./overlay.js";
import { percent, text } from "./texts.js";

const STORAGE_KEY = "lens.look";
const CONTROLS = ["alpha", "threshold", "colormap"];

export class DisplayControls {
  /** @param {() => void} draw called after a change, at most once per frame */
  constructor(draw) {
    this.value = { ...DEFAULT_DISPLAY, ...stored() };
    this.frame = 0;
    for (const name of CONTROLS) byId(name).addEventListener("input", () => this.change(draw));
  }

  /** Update the controls to the current values and language. */
  render() {
    const { alpha, threshold, colormap } = this.value;
    byId("colormap").replaceChildren(...Object.keys(COLORMAPS).map((name) => option(name, text(`colormap.${name}`))));
    for (const name of CONTROLS) byId(name).value = this.value[name];
    byId("colormap").value = colormap;
    byId("alpha-value").textContent = percent(alpha, 0);
    byId("threshold-value").textContent = percent(threshold, 0);
  }

  change(draw) {
    this.value = {
      alpha: Number(byId("alpha").value),
      threshold: Number(byId("threshold").value),
      colormap: byId("colormap").value,
    };
    try {
      localStorage.setItem(STORAGE_KEY, JSON.stringify(this.value));
    } catch {
      // Pages from disk, and some browsers, have no storage.
    }
    cancelAnimationFrame(this.frame);
    this.frame = requestAnimationFrame(() => {
      this.render();
      draw();
    });
  }
}

function stored() {
  try {
    const value = JSON.parse(localStorage.getItem(STORAGE_KEY));
    return value?.colormap in COLORMAPS ? value : {};
  } catch {
    return {};
  }
}
