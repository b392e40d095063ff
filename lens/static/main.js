// The page: connects what the user does to the modules that act on it.
//
//   main ─▶ images ─▶ models
//     │       └─▶ explanations ─▶ workbench ─▶ figure ─▶ legend; classes, display, curl
//     ├─▶ downloads ─▶ png, background ─▶ worker ─▶ caption
//     └─▶ tasks ─▶ status          state, texts, dom, api: used by all

import { ClassSearch } from "./classes.js";
import { byId } from "./dom.js";
import { copyCommand, saveOverlay, saveResponse } from "./downloads.js";
import { choose, toggleComparison } from "./explanations.js";
import { changeModel, openImage, openSample } from "./images.js";
import { connect, translateSamples } from "./models.js";
import { state } from "./state.js";
import { retry, run } from "./tasks.js";
import { preferred, text, useLanguage } from "./texts.js";
import { figures, render } from "./workbench.js";

function listen() {
  listenForImages();
  listenForDrops();
  byId("retry").addEventListener("click", retry);
  byId("language").addEventListener("change", () => changeLanguage(byId("language").value));
  byId("model").addEventListener("change", () => changeModel(byId("model").value));
  byId("classes").addEventListener("change", (event) => choose({ target: Number(event.target.value) }));
  byId("method").addEventListener("change", () => choose({ method: byId("method").value }));
  byId("layer").addEventListener("change", () => choose({ layer: byId("layer").value }));
  byId("compare").addEventListener("click", toggleComparison);
  byId("change").addEventListener("change", (event) => activate(Number(event.target.value)));
  byId("scales").addEventListener("change", (event) => {
    state.commonScale = event.target.value === "common";
    render();
  });
  for (const [number, figure] of figures.entries()) {
    figure.element.addEventListener("pointerdown", () => state.comparing && activate(number));
  }
  byId("save-overlay").addEventListener("click", saveOverlay);
  byId("save-json").addEventListener("click", saveResponse);
  byId("copy").addEventListener("click", copyCommand);
}

function listenForImages() {
  byId("choose").addEventListener("click", () => byId("file").click());
  byId("photograph").addEventListener("click", () => byId("camera").click());
  for (const input of [byId("file"), byId("camera")]) {
    input.addEventListener("change", () => {
      if (input.files.length) openImage(input.files[0]);
      input.value = "";
    });
  }
  byId("samples").addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button) openSample(button.dataset.name);
  });
  document.addEventListener("paste", (event) => {
    if (event.clipboardData.files.length) openImage(event.clipboardData.files[0]);
  });
}

function listenForDrops() {
  const hint = byId("drop-hint");
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    hint.hidden = false;
  });
  document.addEventListener("dragleave", (event) => {
    if (event.relatedTarget === null) hint.hidden = true;
  });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    hint.hidden = true;
    if (event.dataTransfer.files.length) openImage(event.dataTransfer.files[0]);
  });
}

function activate(number) {
  if (state.active === number) return;
  state.active = number;
  render();
}

async function changeLanguage(language) {
  const response = await fetch(`texts/${language}.json`);
  useLanguage(language, await response.json());
  document.title = text("title");
  byId("language").value = language;
  translateSamples();
  render();
}

const labels = () => state.description.labels ?? [];
new ClassSearch(byId("search"), byId("matches"), byId("search-status"), labels, (target) => choose({ target }));
byId("views").append(...figures.map((figure) => figure.element));
listen();
await changeLanguage(preferred());
run(connect);
