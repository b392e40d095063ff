// The page: what the person does → what is asked → what is shown.

import * as api from "./api.js";
import * as background from "./background.js";
import { Search, listClasses } from "./classes.js";
import { command } from "./curl.js";
import { Figure, element } from "./figure.js";
import { Look, option } from "./look.js";
import { has, preferred, speak, text } from "./texts.js";

// Classes that are explained with the first request of a picture: they share one forward pass.
const EXPLAINED = 5;
const SECONDS_BETWEEN_TRIES = 3;
// What a form adds to its file.
const FORM_BYTES = 4096;
const MEGABYTE = 2 ** 20;

const at = (id) => document.getElementById(id);

const figures = [new Figure("A"), new Figure("B")];

const state = {
  overview: { models: [], samples: [], max_body_bytes: Infinity },
  model: "",
  /** What the model says about itself; without labels where it may not be asked. */
  description: {},
  /** @type {{name: string, file: Blob, drawable: Blob, preview: ImageData | undefined} | null} */
  picture: null,
  /** What was answered about the picture: [{asked, options, answer}] */
  answers: [],
  /** What the two figures show: index of a class (undefined: not known yet), method and layer ("" the model's own). */
  views: [
    { target: undefined, method: "", layer: "" },
    { target: undefined, method: "", layer: "" },
  ],
  comparing: false,
  active: 0,
};

// ----------------------------------------------------------------------------- doing something, and what goes wrong

let controller = new AbortController();

/** Does one thing; whatever was under way is given up. Where the server is gone it goes on trying. */
async function attempt(task) {
  controller.abort();
  const { signal } = (controller = new AbortController());
  attempt.last = task;
  for (;;) {
    try {
      await task(signal);
      if (!signal.aborted) settle();
      return;
    } catch (error) {
      if (signal.aborted) return;
      fail(error, true);
      if (!error.unavailable) return;
    }
    await returned(signal);
    if (signal.aborted) return;
    at("status").textContent = text("back");
  }
}

/** Waits until the server answers. */
async function returned(signal) {
  do {
    await new Promise((resolve) => setTimeout(resolve, 1000 * SECONDS_BETWEEN_TRIES));
  } while (!signal.aborted && !(await api.isThere()));
}

function settle() {
  at("trouble").hidden = true;
  document.body.classList.remove("busy");
  at("status").textContent = state.picture ? text("done", { name: state.picture.name }) : "";
}

/** Says what is wrong; `repeatable` where trying again makes sense. */
function fail(error, repeatable = false) {
  document.body.classList.remove("busy");
  at("status").textContent = "";
  at("trouble-title").textContent = error.unavailable ? text("gone") : text("error");
  at("trouble-text").textContent = error.message;
  at("again").hidden = !repeatable;
  at("trouble").hidden = false;
}

function busy(said) {
  document.body.classList.add("busy");
  at("status").textContent = said;
}

// ----------------------------------------------------------------------------- the server

/** Reads what there is; whoever gives up waiting for it meanwhile finds it later. */
async function connect() {
  state.overview = await api.overview();
  const { models, samples } = state.overview;
  at("model").replaceChildren(...models.map((name) => option(name, name)));
  at("model-choice").hidden = models.length < 2;
  at("samples").replaceChildren(...samples.map(sampleButton));
  at("samples-choice").hidden = samples.length === 0;
  await meet(models[0]);
}

/** Goes over to a model, and reads what it has. */
async function meet(model) {
  Object.assign(state, { model, description: {}, answers: [] });
  at("model").value = model;
  for (const view of state.views) Object.assign(view, { target: undefined, method: "", layer: "" });
  const description = await api.describe(model);
  if (state.model !== model) return;
  state.description = description;
  search.labels = description.labels ?? [];
}

async function ask(view, options, signal) {
  const chosen = { ...options };
  if (view.method) chosen.method = view.method;
  if (view.layer) chosen.layer = view.layer;
  const answer = await api.predict(state.model, state.picture.file, chosen, signal);
  signal.throwIfAborted();
  return { asked: key(view), options: chosen, answer };
}

function key({ method, layer }) {
  return JSON.stringify([method, layer]);
}

// ----------------------------------------------------------------------------- a picture

/** Has a picture classified and explained. */
function open(file, name = file.name) {
  const limit = state.overview.max_body_bytes - FORM_BYTES;
  if (file.size > limit) {
    const [size, most] = [file.size, limit].map((bytes) => (bytes / MEGABYTE).toFixed(1));
    fail(new api.ServerError(text("error.too_large", { name, size, limit: most }), "body_too_large", false));
    return;
  }
  state.picture = { name, file, drawable: file, preview: undefined };
  state.answers = [];
  for (const view of state.views) view.target = undefined;
  for (const figure of figures) figure.clear();
  at("trouble").hidden = true;
  attempt(examine);
}

/** Decodes and explains the picture. */
async function examine(signal) {
  const { picture } = state;
  busy(text("working", { name: picture.name }));
  if (!state.model) await connect();
  const decoding = decode(picture, signal);
  const first = await ask(state.views[0], { explain: String(explainable()) }, signal);
  state.answers.push(first);
  await decoding;
  if (!picture.preview) await decodeThere(picture, signal);
  signal.throwIfAborted();
  const [best, second] = first.answer.predictions;
  const [left, right] = state.views;
  left.target = best.index;
  right.target = key(left) === key(right) ? (second ?? best).index : best.index;
  await complete(signal);
}

function explainable() {
  return Math.min(EXPLAINED, state.description.labels?.length || EXPLAINED);
}

/** Decodes in the browser, and shows the picture before it is explained. */
async function decode(picture, signal) {
  const decoded = await background.preview(picture.file).catch(() => null);
  if (signal.aborted || decoded === null || decoded.transparent) return;
  picture.preview = decoded.picture;
  render();
}

/** Has the server decode what the browser cannot, or shows otherwise: an overlay without any colour. */
async function decodeThere(picture, signal) {
  const options = { explain: "1", topk: "1", heatmap: "none", overlay: "png", alpha: "0" };
  const { explanations } = await api.predict(state.model, picture.file, options, signal);
  const bytes = atob(explanations[0].overlay.split(",")[1]);
  picture.drawable = new Blob([Uint8Array.from(bytes, (character) => character.charCodeAt(0))], { type: "image/png" });
  const decoded = await background.preview(picture.drawable).catch(() => null);
  if (decoded === null) throw new api.ServerError(text("error.unreadable"), "unreadable", false);
  picture.preview = decoded.picture;
}

// ----------------------------------------------------------------------------- what is shown

/** Changes what the active figure shows, and takes it back where the server refuses. */
function choose(change) {
  if (!state.picture?.preview || state.answers.length === 0) return;
  const view = state.views[state.active];
  const before = { ...view };
  Object.assign(view, change);
  attempt(async (signal) => {
    try {
      await complete(signal);
    } catch (error) {
      if (!error.unavailable) Object.assign(view, before);
      render();
      throw error;
    }
  });
}

/** Asks for what the figures lack, and shows them. */
async function complete(signal) {
  for (const view of visible()) {
    if (found(view)) continue;
    const label = typeof view.target === "string" ? view.target : (state.description.labels?.[view.target] ?? "");
    busy(text("explaining", { label }));
    const answered = await ask(view, { targets: targets(view).join(",") }, signal);
    state.answers.push(answered);
    view.target = answered.answer.explanations[0].index;
  }
  render();
}

/** The classes to ask for: the one wanted, and the probable ones at once, where this method or layer is new. */
function targets(view) {
  const wanted = typeof view.target === "string" ? `"${view.target.replaceAll('"', '""')}"` : view.target;
  const known = state.answers.some(({ asked }) => asked === key(view));
  const probable = known ? [] : predictions().map(({ index }) => index);
  return [wanted, ...probable.filter((index) => index !== view.target)];
}

function visible() {
  return state.comparing ? state.views : state.views.slice(0, 1);
}

function predictions() {
  return state.answers[0]?.answer.predictions ?? [];
}

/** The answer that explains what a figure shows, with that explanation. */
function found(view) {
  for (const answered of state.answers.filter(({ asked }) => asked === key(view))) {
    const explanation = answered.answer.explanations.find(({ index }) => index === view.target);
    if (explanation) return { ...answered, explanation };
  }
  return undefined;
}

/** The probable classes, and what else was asked for. */
function classes() {
  const listed = new Map(predictions().map((entry) => [entry.index, entry]));
  for (const { answer } of state.answers) {
    for (const entry of answer.explanations) if (!listed.has(entry.index)) listed.set(entry.index, entry);
  }
  return [...listed.values()];
}

// ----------------------------------------------------------------------------- rendering

function render() {
  const { picture } = state;
  document.body.classList.toggle("empty", !picture);
  document.body.classList.toggle("comparing", state.comparing);
  at("workbench").hidden = !picture?.preview;
  look.render();
  if (!picture?.preview) return;
  for (const [number, figure] of figures.entries()) renderFigure(figure, number);
  renderPanel();
}

function renderFigure(figure, number) {
  const { name, preview } = state.picture;
  const view = state.views[number];
  figure.element.hidden = number > 0 && !state.comparing;
  figure.badge.hidden = !state.comparing;
  figure.element.classList.toggle("active", state.comparing && number === state.active);
  figure.element.setAttribute("aria-label", text("view", { badge: state.comparing ? "AB"[number] : "" }).trim());
  if (figure.element.hidden) return;
  const shown = found(view);
  const image = state.answers[0]?.answer.image ?? whole(preview);
  figure.show({ name, picture: preview, image, explanation: shown?.explanation ?? null }, look.value);
}

function whole({ width, height }) {
  return { width, height, region: [0, 0, width, height] };
}

function renderPanel() {
  const view = state.views[state.active];
  const shown = found(view);
  listClasses(at("classes"), classes(), view.target, (index) => choose({ target: index }));
  renderNames(at("method"), state.description.methods, view.method, state.description.method ?? shown?.answer.method);
  renderNames(at("layer"), state.description.layers, view.layer, state.description.layer ?? shown?.answer.layer);
  const method = `method.${view.method || state.description.method || shown?.answer.method}`;
  at("method-hint").textContent = has(method) ? text(method) : "";
  at("compare").setAttribute("aria-pressed", String(state.comparing));
  at("change").hidden = !state.comparing;
  at("change").querySelector(`[value="${state.active}"]`).checked = true;
  at("keep-overlay").disabled = !shown?.explanation.evidence;
  at("keep-json").disabled = !shown;
  at("command").textContent = shown ? curl(shown) : "";
}

/** Fills a list of methods or layers; the model's own comes first. */
function renderNames(select, names, chosen, own) {
  const others = (names ?? []).filter((name) => name !== own);
  select.replaceChildren(option("", text("own", { name: own ?? "…" })), ...others.map((name) => option(name, name)));
  select.value = chosen;
}

function curl({ options }) {
  const address = new URL(api.predictions(state.model), document.baseURI).href;
  return command(address, state.picture.name, options);
}

function sampleButton(name) {
  const button = element("button");
  button.type = "button";
  const image = element("img");
  image.src = `samples/${encodeURIComponent(name)}`;
  image.alt = text("sample", { name });
  button.append(image);
  button.addEventListener("click", () => attempt(async () => open(await api.sample(name))));
  const entry = element("li");
  entry.append(button);
  return entry;
}

// ----------------------------------------------------------------------------- what the person does

const look = new Look(redraw);
const search = new Search(at("search"), at("found"), at("search-status"), (target) => choose({ target }));

function listen() {
  at("choose").addEventListener("click", () => at("file").click());
  at("photograph").addEventListener("click", () => at("camera").click());
  for (const input of [at("file"), at("camera")]) {
    input.addEventListener("change", () => {
      if (input.files.length) open(input.files[0]);
      input.value = "";
    });
  }
  listenForDrops();
  document.addEventListener("paste", (event) => {
    if (event.clipboardData.files.length) open(event.clipboardData.files[0]);
  });
  at("again").addEventListener("click", () => attempt(attempt.last));
  at("language").addEventListener("change", () => talk(at("language").value));
  at("model").addEventListener("change", () => changeModel(at("model").value));
  at("method").addEventListener("change", () => choose({ method: at("method").value }));
  at("layer").addEventListener("change", () => choose({ layer: at("layer").value }));
  at("compare").addEventListener("click", compare);
  at("change").addEventListener("change", (event) => activate(Number(event.target.value)));
  for (const [number, figure] of figures.entries()) {
    figure.element.addEventListener("pointerdown", () => state.comparing && activate(number));
  }
  at("keep-overlay").addEventListener("click", keepOverlay);
  at("keep-json").addEventListener("click", keepAnswer);
  at("copy").addEventListener("click", copy);
}

function listenForDrops() {
  const veil = at("veil");
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    veil.hidden = false;
  });
  document.addEventListener("dragleave", (event) => {
    if (event.relatedTarget === null) veil.hidden = true;
  });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    veil.hidden = true;
    if (event.dataTransfer.files.length) open(event.dataTransfer.files[0]);
  });
}

function changeModel(model) {
  attempt(async (signal) => {
    await meet(model);
    signal.throwIfAborted();
    if (state.picture) await examine(signal);
  });
}

function compare() {
  state.comparing = !state.comparing;
  state.active = Number(state.comparing);
  const [left, right] = state.views;
  const other = predictions().find(({ index }) => index !== left.target);
  if (state.comparing && right.target === undefined) right.target = other?.index ?? left.target;
  choose({});
}

function activate(number) {
  if (state.active === number) return;
  state.active = number;
  render();
}

function redraw() {
  if (state.picture?.preview) for (const figure of figures) if (!figure.element.hidden) figure.draw(look.value);
}

async function keepOverlay() {
  const { answer, explanation } = found(state.views[state.active]);
  try {
    const { drawable } = state.picture;
    save(await background.overlay(drawable, explanation.heatmap, answer.image.region, look.value), explanation, "png");
  } catch (error) {
    fail(new api.ServerError(text("keep.failed", { reason: error.message }), "", false));
  }
}

function keepAnswer() {
  const { answer, explanation } = found(state.views[state.active]);
  save(new Blob([JSON.stringify(answer, null, 2)], { type: "application/json" }), explanation, "json");
}

function save(blob, { index, label }, suffix) {
  const link = element("a");
  const words = label.toLowerCase().replace(/[^\p{L}\p{N}]+/gu, "-");
  link.download = `${state.picture.name.replace(/\.\w+$/, "")}.${index}-${words}.${suffix}`;
  link.href = URL.createObjectURL(blob);
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 0);
}

async function copy() {
  try {
    await navigator.clipboard.writeText(at("command").textContent);
    at("status").textContent = text("copied");
  } catch {
    // Not every page may write there.
    getSelection().selectAllChildren(at("command"));
    at("status").textContent = text("copy.failed");
  }
}

async function talk(language) {
  const response = await fetch(`texts/${language}.json`);
  speak(language, await response.json());
  document.title = text("title");
  at("language").value = language;
  for (const image of at("samples").querySelectorAll("img")) {
    image.alt = text("sample", { name: decodeURIComponent(image.src.split("/").at(-1)) });
  }
  render();
}

at("views").append(...figures.map((figure) => figure.element));
listen();
await talk(preferred());
attempt(connect);
