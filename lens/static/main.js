// The page: connects what the user does to the modules that act on it.
//
//   main ─▶ images ─▶ models
//     │       └─▶ explanations ─▶ workbench ─▶ figure ─▶ legend; classes, display, curl
//     ├─▶ downloads ─▶ png, background ─▶ worker ─▶ caption
//     └─▶ tasks ─▶ status          state, texts, dom, api: used by all

import { ClassSearch } from "./classes.js";
import { byId } from "./dom.js";
import { listenToDialogs } from "./dialogs.js";
import { copyCommand, saveHeatmap, saveOverlay, saveResponse } from "./downloads.js";
import { choose, toggleComparison } from "./explanations.js";
import { changeModel, openFiles, openImage, openSample } from "./images.js";
import { connect, translateSamples } from "./models.js";
import { state } from "./state.js";
import { listenToExports } from "./exports.js";
import { readLink } from "./links.js";
import { drain } from "./queue.js";
import { listenToSession, restoreSession } from "./session.js";
import { renderStrip } from "./strip.js";
import { cancel, retry, run } from "./tasks.js";
import { preferred, text, useLanguage } from "./texts.js";
import { difference, figures, render } from "./workbench.js";
import { listenToZoom } from "./zoom.js";

function listen() {
  listenForImages();
  listenForDrops();
  listenToSession();
  listenToExports();
  listenToDialogs();
  listenToZoom();
  byId("difference").addEventListener("change", render);
  byId("retry").addEventListener("click", retry);
  byId("cancel").addEventListener("click", cancel);
  byId("language").addEventListener("change", () => changeLanguage(byId("language").value));
  byId("model").addEventListener("change", () => changeModel(byId("model").value));
  byId("classes").addEventListener("change", (event) => choose({ target: Number(event.target.value) }));
  byId("method").addEventListener("change", () => choose({ method: byId("method").value }));
  byId("layer").addEventListener("change", () => choose({ layer: byId("layer").value }));
  byId("versus").addEventListener("change", ({ target: { value } }) => {
    choose({ versus: value === "" ? undefined : Number(value) });
  });
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
  byId("save-heatmap").addEventListener("click", saveHeatmap);
  byId("save-json").addEventListener("click", saveResponse);
  byId("copy").addEventListener("click", copyCommand);
}

function listenForImages() {
  byId("choose").addEventListener("click", () => byId("file").click());
  byId("photograph").addEventListener("click", () => byId("camera").click());
  for (const input of [byId("file"), byId("camera")]) {
    input.addEventListener("change", () => {
      openFiles(input.files);
      input.value = "";
    });
  }
  byId("samples").addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button) openSample(button.dataset.name);
  });
  document.addEventListener("paste", (event) => {
    openFiles(event.clipboardData.files);
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
    openFiles(event.dataTransfer.files);
  });
}

/** Show what the address names. */
function openLinked() {
  const link = readLink();
  if (link && !state.image) openImage(link.image, link.view);
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
  renderStrip();
  render();
}

const labels = () => state.description.labels ?? [];
new ClassSearch(byId("search"), byId("matches"), byId("search-status"), labels, (target) => choose({ target }));
byId("views").append(...[...figures, difference].map((figure) => figure.element));
listen();
await changeLanguage(preferred());
await run(connect);
await restoreSession();
openLinked();
drain();
