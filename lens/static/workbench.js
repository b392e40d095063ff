// Rendering of the state: the figures, and the panel beside them.

import * as api from "./api.js";
import { listClasses } from "./classes.js";
import { command } from "./curl.js";
import { DifferenceFigure } from "./difference.js";
import { DisplayControls } from "./display.js";
import { byId, option } from "./dom.js";
import { Figure } from "./figure.js";
import { allowsContrast } from "./methods.js";
import { activeView, firstResult, isComparable, listedClasses, methodOf, resultOf, state, strongestOf } from "./state.js";
import { renderRecord } from "./record.js";
import { renderStrip } from "./strip.js";
import { hasText, significant, text } from "./texts.js";

const BADGES = ["A", "B"];

export const figures = BADGES.map((badge) => new Figure(badge));
export const difference = new DifferenceFigure();
export const displayControls = new DisplayControls(redraw);

/** Show the current state. */
export function render() {
  const { image } = state;
  document.body.classList.toggle("empty", !image && !state.images.length);
  document.body.classList.toggle("comparing", state.comparing);
  byId("workbench").hidden = !image?.preview;
  displayControls.render();
  const result = image?.preview && resultOf(activeView());
  byId("save-overlay").disabled = byId("save-heatmap").disabled = !result?.explanation.evidence;
  byId("save-json").disabled = !result;
  byId("command").textContent = result ? commandFor(result) : "";
  renderStrip();
  renderRecord(image, result);
  if (!image?.preview) return;
  for (const [number, figure] of figures.entries()) renderFigure(figure, number);
  renderPanel(result);
  renderScales();
  renderDifference();
}

/** Draw the figures again with changed display settings. */
function redraw() {
  if (!state.image?.preview) return;
  for (const figure of figures) if (!figure.element.hidden) figure.draw(displayControls.value);
}

function renderFigure(figure, number) {
  const { name, preview } = state.image;
  const badge = state.comparing ? BADGES[number] : "";
  figure.element.hidden = number > 0 && !state.comparing;
  figure.badge.hidden = !state.comparing;
  figure.element.classList.toggle("active", state.comparing && number === state.active);
  figure.element.setAttribute("aria-label", text("view", { badge }).trim());
  if (figure.element.hidden) return;
  const view = state.views[number];
  const result = resultOf(view);
  const { content } = figure;
  if (!result && content?.explanation && content.preview === preview) {
    figure.setOutdated(text("outdated", { label: content.explanation.label, method: content.method }));
    return;
  }
  const explanation = result?.explanation ?? null;
  const method = result?.response.method ?? "";
  const image = firstResult(state.image)?.response.image ?? fullyCovered(preview);
  const shown = { name, preview, image, explanation, method, strongest: strongestOf(view) };
  figure.show(shown, displayControls.value);
}

/** Size and region of an image before the server has reported them. */
function fullyCovered({ width, height }) {
  return { width, height, region: [0, 0, width, height] };
}

function renderPanel(result) {
  const view = activeView();
  const { description } = state;
  const defaultMethod = description.method ?? result?.response.method;
  const defaultLayer = description.layer ?? result?.response.layer;
  const strengthOf = ({ index }) => resultOf({ ...view, target: index })?.explanation.strength;
  const classes = listedClasses().map((entry) => ({ ...entry, strength: strengthOf(entry) }));
  listClasses(byId("classes"), classes, view.target);
  renderNames(byId("method"), description.methods, view.method, defaultMethod);
  renderNames(byId("layer"), description.layers, view.layer, defaultLayer);
  renderContrast(view, classes);
  renderExpected(classes);
  const hint = `method.${methodOf(view)}`;
  byId("method-hint").textContent = hasText(hint) ? text(hint) : "";
  byId("compare").setAttribute("aria-pressed", String(state.comparing));
  byId("change").hidden = !state.comparing;
  byId("change").querySelector(`[value="${state.active}"]`).checked = true;
  byId("provenance").textContent = result ? text("provenance", result.response.model) : "";
}

/** Offer the classes that the image may be expected to have. */
function renderExpected(classes) {
  const { expected } = state.image;
  const labels = new Set(classes.map(({ label }) => label));
  if (expected !== undefined) labels.add(expected);
  const options = [...labels].map((label) => option(label, label));
  byId("expected").replaceChildren(option("", text("expected.none")), ...options);
  byId("expected").value = expected ?? "";
}

/** Offer the classes that the chosen one can be contrasted with. */
function renderContrast(view, classes) {
  const others = classes.filter(({ index }) => index !== view.target);
  byId("versus").replaceChildren(
    option("", text("versus.none")),
    ...others.map(({ index, label }) => option(index, text("versus.value", { label }))),
  );
  byId("versus").value = view.versus ?? "";
  byId("contrast").hidden = others.length === 0 || !allowsContrast(methodOf(view));
}

/** Show whether two compared maps have one color scale, and what that means. */
function renderScales() {
  const comparable = isComparable();
  const common = state.commonScale && comparable;
  byId("scales").hidden = !state.comparing;
  byId("scales").querySelector(`[value="${common ? "common" : "own"}"]`).checked = true;
  byId("scale-common").disabled = !comparable;
  const key = common ? "scale.common.hint" : comparable ? "scale.own.hint" : "scale.incomparable.hint";
  byId("scales-hint").textContent = text(key, { strength: significant(strongestOf(activeView())) });
}

/** Show the difference of two compared maps, if the user wants it and both have evidence. */
function renderDifference() {
  byId("difference-control").hidden = !state.comparing;
  const explanations = state.views.map((view) => resultOf(view)?.explanation);
  const shows = state.comparing && byId("difference").checked && explanations.every((entry) => entry?.evidence);
  if (!shows) {
    difference.hide();
    return;
  }
  difference.show(state.image.preview, firstResult(state.image).response.image, explanations, isComparable());
}

/** Fill a list of methods or layers; the model's default comes first. */
function renderNames(select, names, chosen, defaultName) {
  const others = (names ?? []).filter((name) => name !== defaultName);
  const first = option("", text("default", { name: defaultName ?? "…" }));
  select.replaceChildren(first, ...others.map((name) => option(name, name)));
  select.value = chosen;
}

function commandFor({ options }) {
  const url = new URL(api.predictionPath(state.model), document.baseURI).href;
  return command(url, state.image.name, options);
}
