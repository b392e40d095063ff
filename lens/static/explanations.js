// Explanations from the server: choosing what the figures show, and requesting what is missing for it.

import * as api from "./api.js";
import { activeView, keyOf, predictions, resultOf, state, visibleViews } from "./state.js";
import { showBusy } from "./status.js";
import { run } from "./tasks.js";
import { text } from "./texts.js";
import { render } from "./workbench.js";

/** Change what the active figure shows; revert the change if the server rejects it. */
export function choose(change) {
  if (!state.image?.preview || state.results.length === 0) return;
  const view = activeView();
  const before = { ...view };
  Object.assign(view, change);
  run(async (signal) => {
    try {
      await complete(signal);
    } catch (error) {
      if (!error.unavailable) Object.assign(view, before);
      render();
      throw error;
    }
  });
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
    showBusy(text("explaining", { label }));
    const result = await requestExplanations(view, { targets: targets(view).join(",") }, signal);
    state.results.push(result);
    view.target = result.response.explanations[0].index;
  }
  render();
}

/** Request explanations with the method and layer of a view. */
export async function requestExplanations(view, options, signal) {
  const allOptions = { ...options };
  if (view.method) allOptions.method = view.method;
  if (view.layer) allOptions.layer = view.layer;
  const response = await api.predict(state.model, state.image.file, allOptions, signal);
  signal.throwIfAborted();
  return { key: keyOf(view), options: allOptions, response, time: new Date() };
}

/** The classes to request: the chosen one, and with a new method or layer the most probable ones, too. */
function targets(view) {
  const chosen = typeof view.target === "string" ? `"${view.target.replaceAll('"', '""')}"` : view.target;
  const known = state.results.some(({ key }) => key === keyOf(view));
  const probable = known ? [] : predictions().map(({ index }) => index);
  return [chosen, ...probable.filter((index) => index !== view.target)];
}
