// Saving: the overlay with a caption, the response, and the command. Each file says what made it.

import * as background from "./background.js";
import { byId, element } from "./dom.js";
import { multiplied } from "./heatmap.js";
import { legendText } from "./legend.js";
import { withText } from "./png.js";
import { activeView, resultOf, state, strongestOf } from "./state.js";
import { showError, showStatus } from "./status.js";
import { dateTime, percent, significant, text } from "./texts.js";
import { displayControls } from "./workbench.js";

/** Save the image with its map at full size and a caption, as a PNG. */
export async function saveOverlay() {
  const view = activeView();
  const result = resultOf(view);
  const { response, explanation } = result;
  const { drawable } = state.image;
  const strongest = strongestOf(view);
  const grid = multiplied(explanation.heatmap, explanation.strength / strongest);
  const map = { grid, own: explanation.heatmap, region: response.image.region };
  const display = displayControls.value;
  await savePng(result, "", () => background.overlay(drawable, map, display, captionOf(result, strongest, display)));
}

/** Save the map alone in its colors, at the image's size, as a PNG. */
export async function saveHeatmap() {
  const result = resultOf(activeView());
  const { response, explanation } = result;
  const { colormap } = displayControls.value;
  await savePng(result, ".heatmap", () => background.heatmap(explanation.heatmap, response.image, colormap));
}

async function savePng(result, kind, draw) {
  try {
    save(withText(await draw(), metadataOf(result)), result.explanation, `${kind}.png`);
  } catch (error) {
    showError(new Error(text("save.failed", { reason: error.message })));
  }
}

/** Save the response as JSON, with the image's name, the time, and the class that was shown. */
export function saveResponse() {
  const { response, explanation, options, time } = resultOf(activeView());
  const { index, label } = explanation;
  const shown = { file: state.image.name, time: time.toISOString(), options, class: { index, label } };
  const content = JSON.stringify({ ...response, request: shown }, null, 2);
  save(new Blob([content], { type: "application/json" }), explanation, ".json");
}

/** Copy the command, or select it where the page must not write to the clipboard. */
export async function copyCommand() {
  try {
    await navigator.clipboard.writeText(byId("command").textContent);
    showStatus(text("copied"));
  } catch {
    getSelection().selectAllChildren(byId("command"));
    showStatus(text("copy.failed"));
  }
}

/** What a saved image says: class, method, model, image and time, and the meaning of the colors. */
function captionOf({ response, explanation, time }, strongest, display) {
  const { label, probability, strength, versus } = explanation;
  const { method, layer, model } = response;
  const shown = versus ? `${label} ${text("versus.value", { label: versus.label })}` : label;
  const values = { label: shown, probability: percent(probability), strength: significant(strength) };
  const lines = [
    legendText(method, versus, display.colormap, strongest),
    text("caption.class", values),
    text("caption.method", { method, layer: [layer].flat().join(", ") }),
    text("provenance", model),
    text("caption.file", { name: state.image.name, time: dateTime(time) }),
  ];
  return { lines, lowest: "0", highest: significant(strongest) };
}

/** What a saved image says to programs. */
function metadataOf({ response, explanation, time }) {
  const { index, label, probability, strength, versus } = explanation;
  const { method, layer, model } = response;
  return {
    ...(versus && { versus: `${versus.index} ${versus.label}` }),
    model: `${model.name} ${model.version}`,
    weights: model.weights,
    class: `${index} ${label}`,
    probability: String(probability),
    strength: String(strength),
    method,
    layer: [layer].flat().join(","),
    time: time.toISOString(),
    file: state.image.name,
  };
}

function save(blob, { index, label }, suffix) {
  const words = label.toLowerCase().replace(/[^\p{L}\p{N}]+/gu, "-");
  download(blob, `${state.image.name.replace(/\.\w+$/, "")}.${index}-${words}${suffix}`);
}

/** Save a file under a name. */
export function download(blob, name) {
  const link = element("a");
  link.download = name;
  link.href = URL.createObjectURL(blob);
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 0);
}
