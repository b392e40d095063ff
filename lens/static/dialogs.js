// The dialogs: about the model, how to read a map, and the keys.

import { renderAbout } from "./about.js";
import { byId } from "./dom.js";

/** Open a dialog by the button that names it, or the keys' one by "?"; close it by its button or a click beside it. */
export function listenToDialogs() {
  for (const button of document.querySelectorAll("[data-dialog]")) {
    button.addEventListener("click", () => open(button.dataset.dialog));
  }
  for (const dialog of document.querySelectorAll("dialog")) {
    dialog.addEventListener("click", (event) => {
      if (event.target === dialog || event.target.closest("[data-close]")) dialog.close();
    });
  }
  document.addEventListener("keydown", (event) => {
    if (event.key === "?" && !event.target.matches("input, select, textarea")) open("keys");
  });
}

function open(name) {
  if (document.querySelector("dialog[open]")) return;
  if (name === "about") renderAbout();
  byId(name).showModal();
}
