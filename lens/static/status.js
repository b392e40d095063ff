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

/** Show an error; `repeatable`: offer to try again. */
export function showError(error, repeatable = false) {
  document.body.classList.remove("busy");
  showStatus("");
  byId("error-title").textContent = error.unavailable ? text("unavailable") : text("error");
  byId("error-text").textContent = error.message;
  byId("retry").hidden = !repeatable;
  byId("error").hidden = false;
}

export function hideError() {
  byId("error").hidden = true;
}
