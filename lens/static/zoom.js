// Zoom and pan, the same for all figures: custom properties of their container, which the style sheet applies.

import { byId } from "./dom.js";

const STEP = 1.5;
const MAX_SCALE = 8;
const KEYS = { "+": STEP, "-": 1 / STEP };

/** Scale, and the position of the image's left upper corner as a share of the visible part's size. */
const zoom = { scale: 1, x: 0, y: 0 };

/** Listen to the buttons, to keys and the wheel on an image, and to dragging an enlarged image. */
export function listenToZoom() {
  const views = byId("views");
  byId("zoom-in").addEventListener("click", () => zoomBy(STEP));
  byId("zoom-out").addEventListener("click", () => zoomBy(1 / STEP));
  byId("zoom-reset").addEventListener("click", resetZoom);
  views.addEventListener("keydown", (event) => {
    if (event.key in KEYS) zoomBy(KEYS[event.key]);
    if (event.key === "0") resetZoom();
  });
  views.addEventListener("wheel", wheel, { passive: false });
  views.addEventListener("pointermove", drag);
}

/** Show the whole image again. */
export function resetZoom() {
  Object.assign(zoom, { scale: 1, x: 0, y: 0 });
  apply();
}

/** Enlarge by a factor; the point (u, v) of the visible part, from 0 to 1, stays where it is. */
function zoomBy(factor, u = 0.5, v = 0.5) {
  const scale = Math.min(MAX_SCALE, Math.max(1, zoom.scale * factor));
  const change = scale / zoom.scale;
  Object.assign(zoom, { scale, x: u - (u - zoom.x) * change, y: v - (v - zoom.y) * change });
  apply();
}

function wheel(event) {
  const stage = event.target.closest(".stage");
  // Without the control key the wheel scrolls the page.
  if (!stage || !event.ctrlKey) return;
  event.preventDefault();
  const { left, top, width, height } = stage.getBoundingClientRect();
  zoomBy(event.deltaY < 0 ? STEP : 1 / STEP, (event.clientX - left) / width, (event.clientY - top) / height);
}

function drag(event) {
  const stage = event.target.closest(".stage");
  if (!stage || event.buttons !== 1 || zoom.scale === 1) return;
  zoom.x += event.movementX / stage.clientWidth;
  zoom.y += event.movementY / stage.clientHeight;
  apply();
}

function apply() {
  const within = (position) => Math.min(0, Math.max(1 - zoom.scale, position));
  Object.assign(zoom, { x: within(zoom.x), y: within(zoom.y) });
  const { style, classList } = byId("views");
  style.setProperty("--zoom", zoom.scale);
  style.setProperty("--pan-x", `${100 * zoom.x}%`);
  style.setProperty("--pan-y", `${100 * zoom.y}%`);
  classList.toggle("enlarged", zoom.scale > 1);
  byId("zoom-out").disabled = byId("zoom-reset").disabled = zoom.scale === 1;
  byId("zoom-in").disabled = zoom.scale === MAX_SCALE;
}
