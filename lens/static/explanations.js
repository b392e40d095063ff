// Explanations from the server: choosing what the figures show, and requesting what is missing for it.

import * as api from "./api.js";
import { writeLink } from "./links.js";
import { activeView, change, firstResult, keyOf, methodOf, predictions, resultOf, state, visibleViews } from "./state.js";
import { showBusy } from "./status.js";
import * as store from "./store.js";
import { isCanceled, run } from "./tasks.js";
import { text } from "./texts.js";
import { render } from "./workbench.js";

// Classes that are explained with the first request of an image: they share one forward pass.
const EXPLAINED = 5;

/** Change what the active figure shows; return to what it showed if the server rejects that or the user cancels it. */
export function choose(changes) {
  if (!state.image?.preview || !firstResult(state.image)) return;
  change(activeView(), changes);
  run(async (signal) => {
    try {
      await complete(signal);
    } catch (error) {
      if (signal.aborted ? isCanceled(signal) : !error.unavailable) restore();
      throw error;
    }
  });
}

function restore() {
  for (const [number, view] of state.views.entries()) Object.assign(view, state.shown[number]);
  render();
}

/** Compare two classes, methods, or layers, or stop comparing. */
export function toggleComparison() {
  state.comparing = !state.comparing;
  state.active = Number(state.comparing);
  const [left, right] = state.views;
  const other = predictions().find(({ index }) => index !== left.target);
  if (state.comparing && right.target === undefined) right.target = other?.index ?? left.target;
  choose({});
}

/** Request the explanations that the figures lack, and show them. */
export async function complete(signal) {
  for (const view of visibleViews()) {
    if (resultOf(view)) continue;
    const label = typeof view.target === "string" ? view.target : (state.description.labels?.[view.target] ?? "");
    showBusy(text("explaining", { label, method: methodOf(view) }));
    render();
    const result = await requestExplanations(state.image, view, { targets: targets(view).join(",") }, signal);
    view.target = result.response.explanations[0].index;
  }
  state.shown = state.views.map((view) => ({ ...view }));
  writeLink();
  render();
}

/** Have an image classified and its most probable classes explained. */
export function explainFirst(image, view, signal) {
  const count = Math.min(EXPLAINED, state.description.labels?.length || EXPLAINED);
  return requestExplanations(image, view, { explain: String(count) }, signal);
}

/** Request explanations with all of a view but its class, and keep them with the image. */
async function requestExplanations(image, view, options, signal) {
  const { model } = state;
  const key = keyOf(view);
  const allOptions = { ...options };
  if (view.method) allOptions.method = view.method;
  if (view.layer) allOptions.layer = view.layer;
  if (view.versus !== undefined) allOptions.versus = String(view.versus);
  const response = await api.predict(model, image.file, allOptions, signal);
  signal?.throwIfAborted();
  const result = { key, model, options: allOptions, response, time: new Date() };
  image.results.push(result);
  if (state.images.includes(image)) store.save(image);
  return result;
}

/** The classes to request: the chosen one, and with a new method, layer or contrast the most probable ones, too. */
function targets(view) {
  const chosen = typeof view.target === "string" ? `"${view.target.replaceAll('"', '""')}"` : view.target;
  const known = state.image.results.some(({ key }) => key === keyOf(view));
  const probable = known ? [] : predictions().map(({ index }) => index);
  return [chosen, ...probable.filter((index) => index !== view.target && index !== view.versus)];
}
