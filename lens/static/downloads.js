// Saving: the overlay, the response, and the command.

import * as background from "./background.js";
import { byId, element } from "./dom.js";
import { activeView, resultOf, state } from "./state.js";
import { showError, showStatus } from "./status.js";
import { text } from "./texts.js";
import { displayControls } from "./workbench.js";

/** Save the image with its map at full size, as a PNG. */
export async function saveOverlay() {
  const { response, explanation } = resultOf(activeView());
  const { drawable } = state.image;
  const { region } = response.image;
  try {
    const png = await background.overlay(drawable, explanation.heatmap, region, displayControls.value);
    save(png, explanation, "png");
  } catch (error) {
    showError(new Error(text("save.failed", { reason: error.message })));
  }
}

/** Save the response as JSON. */
export function saveResponse() {
  const { response, explanation } = resultOf(activeView());
  save(new Blob([JSON.stringify(response, null, 2)], { type: "application/json" }), explanation, "json");
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

function save(blob, { index, label }, suffix) {
  const link = element("a");
  const words = label.toLowerCase().replace(/[^\p{L}\p{N}]+/gu, "-");
  link.download = `${state.image.name.replace(/\.\w+$/, "")}.${index}-${words}.${suffix}`;
  link.href = URL.createObjectURL(blob);
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 0);
}
