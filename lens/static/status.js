// The status line and the error message of the page.

import { byId } from "./dom.js";
import { state } from "./state.js";
import { text } from "./texts.js";

/** Show that something is in progress. */
export function showBusy(message) {
  document.body.classList.add("busy");
  showStatus(message);
}

/** Show that everything is done, and hide an earlier error. */
export function showDone() {
  hideError();
  document.body.classList.remove("busy");
  showStatus(state.image ? text("done", { name: state.image.name }) : "");
}

export function showStatus(message) {
  byId("status").textContent = message;
}

/** Show an error where the user sees it, and offer to try again where that can help. */
export function showError(error) {
  document.body.classList.remove("busy");
  showStatus("");
  const isNew = byId("error").hidden || byId("error-text").textContent !== error.message;
  byId("error-title").textContent = title(error);
  byId("error-text").textContent = error.message;
  byId("retry").hidden = !error.unavailable;
  byId("error").hidden = false;
  if (isNew) byId("error").scrollIntoView({ block: "nearest" });
}

function title({ unavailable, image }) {
  if (unavailable) return text("unavailable");
  return image ? text("error.image", { name: image }) : text("error");
}

export function hideError() {
  byId("error").hidden = true;
}
