// The status line and the error message.

import { byId } from "./dom.js";
import { state } from "./state.js";
import { text } from "./texts.js";

let timer;

/** Show that something is in progress, for how long, and how to stop it. */
export function showBusy(message) {
  const start = performance.now();
  const tick = () => {
    byId("elapsed").textContent = text("elapsed", { seconds: Math.floor((performance.now() - start) / 1000) });
  };
  clearInterval(timer);
  timer = setInterval(tick, 1000);
  tick();
  document.body.classList.add("busy");
  byId("progress").hidden = false;
  byId("status").textContent = message;
}

/** Show that everything is done, and hide an earlier error. */
export function showDone() {
  hideError();
  showStatus(state.image ? text("done", { name: state.image.name }) : "");
}

/** Show that the user has stopped what was in progress. */
export function showCanceled() {
  hideError();
  showStatus(text("canceled"));
}

/** Show a message, and that nothing is in progress. */
export function showStatus(message) {
  clearInterval(timer);
  byId("progress").hidden = true;
  document.body.classList.remove("busy");
  byId("status").textContent = message;
}

/** Show an error where the user sees it, and offer to try again where that can help. */
export function showError(error) {
  showStatus("");
  const isNew = byId("error").hidden || byId("error-text").textContent !== error.message;
  byId("error-title").textContent = title(error);
  byId("error-text").textContent = error.message;
  byId("retry").hidden = !error.unavailable;
  byId("error").hidden = false;
  if (isNew) byId("error").scrollIntoView({ block: "nearest" });
}

/** Show that a server that did not respond does so again; whether it can explain is not known yet. */
export function showReturn() {
  byId("error-title").textContent = text("available");
  byId("error-text").textContent = "";
}

function title({ unavailable, starting, image }) {
  if (unavailable) return text(starting ? "starting" : "unavailable");
  return image ? text("error.image", { name: image }) : text("error");
}

export function hideError() {
  byId("error").hidden = true;
}
