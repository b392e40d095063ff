// The controls of how maps are drawn, shared by page and report: opacity, threshold, colors, outline, and boxes.

import { COLORMAPS } from "./colormaps.js";
import { byId, option } from "./dom.js";
import { DEFAULT_DISPLAY } from "./overlay.js";
import { percent, text } from "./texts.js";

const STORAGE_KEY = "lens.look";
const RANGES = ["alpha", "threshold", "share"];
const SWITCHES = ["outline", "boxes"];
const CONTROLS = [...RANGES, ...SWITCHES, "colormap"];

export class DisplayControls {
  /** @param {() => void} draw called after a change, at most once per frame */
  constructor(draw) {
    this.value = { ...DEFAULT_DISPLAY, ...stored() };
    this.frame = 0;
    for (const name of CONTROLS) byId(name).addEventListener("input", () => this.change(draw));
  }

  /** Update the controls to the current values and language. */
  render() {
    byId("colormap").replaceChildren(...Object.keys(COLORMAPS).map((name) => option(name, text(`colormap.${name}`))));
    byId("colormap").value = this.value.colormap;
    for (const name of RANGES) {
      byId(name).value = this.value[name];
      byId(`${name}-value`).textContent = percent(this.value[name], 0);
    }
    for (const name of SWITCHES) byId(name).checked = this.value[name];
    byId("share-control").hidden = !SWITCHES.some((name) => this.value[name]);
  }

  change(draw) {
    this.value = Object.fromEntries([
      ...RANGES.map((name) => [name, Number(byId(name).value)]),
      ...SWITCHES.map((name) => [name, byId(name).checked]),
      ["colormap", byId("colormap").value],
    ]);
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
