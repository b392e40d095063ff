// The state of the page, and what follows from it. Nothing here touches the document or the network.

import { allowsContrast } from "./methods.js";

/**
 * An image of the session.
 *
 * @typedef {object} ImageRecord
 * @property {string} id
 * @property {string} name of its file
 * @property {Blob} file
 * @property {Blob} drawable what the browser decodes: the file, or the server's rendering of it
 * @property {ImageData} [preview] pixels; only the image that is shown has them
 * @property {Result[]} results
 * @property {string} error why it cannot be explained; empty: it can, or nobody has tried
 * @property {Blob} [thumbnail]
 * @property {string} [expected] label of the class that it should have
 * @property {number} added when, in milliseconds
 */

/**
 * One response about an image, with what was requested.
 *
 * @typedef {object} Result
 * @property {string} key of the views that it can be shown in
 * @property {string} model
 * @property {Object<string, string>} options
 * @property {object} response
 * @property {Date} time
 */

export const state = {
  overview: { models: [], samples: [], max_body_bytes: Infinity },
  /** Name of the chosen model. */
  model: "",
  /** The model's description; without labels if the server has no access to it. */
  description: {},
  /** @type {ImageRecord[]} all images of the session */
  images: [],
  /** Which images the strip shows, and in which order. */
  filter: { label: "", from: 0, to: 1 },
  order: "added",
  /** @type {ImageRecord | null} the image that is shown */
  image: null,
  /** What the two figures are to show. */
  views: [emptyView(), emptyView()],
  /** What they showed last, to return to it. */
  shown: [],
  comparing: false,
  /** Whether the page compares because the image's class is not the expected one. */
  pairing: false,
  /** Whether two compared maps have one color scale; otherwise each has the scale of its own maximum. */
  commonScale: false,
  active: 0,
};

/**
 * A view of nothing yet: class index (undefined: not known yet), method and layer ("": the model's default), and the
 * index of the class that it is contrasted with (undefined: none).
 */
export function emptyView() {
  return { target: undefined, method: "", layer: "", versus: undefined };
}

export function activeView() {
  return state.views[state.active];
}

export function visibleViews() {
  return state.comparing ? state.views : state.views.slice(0, 1);
}

/** Identifies all of a view but its class; results with the same key can show each other's classes. */
export function keyOf({ method, layer, versus }) {
  return JSON.stringify([state.model, method, layer, versus ?? null]);
}

/** Whether the strengths of the two figures have the same unit. */
export function isComparable() {
  const [left, right] = state.views;
  return keyOf(left) === keyOf(right);
}

/** The strength that has the strongest color in a view; 0 without evidence. */
export function strongestOf(view) {
  const shared = state.comparing && state.commonScale && isComparable();
  const strengths = (shared ? state.views : [view]).map((each) => resultOf(each)?.explanation.strength ?? 0);
  return Math.max(...strengths);
}

/** The method that a view requests. */
export function methodOf(view) {
  return view.method || state.description.method || firstResult(state.image)?.response.method || "";
}

/** What the chosen model says first about an image; undefined: nothing yet. */
export function firstResult(image) {
  return image?.results.find(({ model }) => model === state.model);
}

/** The class that the chosen model predicts for an image; undefined: nothing yet. */
export function predictionOf(image) {
  return firstResult(image)?.response.predictions[0];
}

/** Whether the model predicts another class than was expected. */
export function disagrees(image) {
  const prediction = predictionOf(image);
  return image.expected !== undefined && prediction !== undefined && prediction.label !== image.expected;
}

/** The most probable classes of the image. */
export function predictions() {
  return firstResult(state.image)?.response.predictions ?? [];
}

/** The most probable classes, then all others that have been explained. */
export function listedClasses() {
  const listed = new Map(predictions().map((entry) => [entry.index, entry]));
  for (const { model, response } of state.image?.results ?? []) {
    if (model !== state.model) continue;
    for (const entry of response.explanations) if (!listed.has(entry.index)) listed.set(entry.index, entry);
  }
  return [...listed.values()];
}

/** The result that explains what a view shows, together with that explanation; undefined: none yet. */
export function resultOf(view) {
  for (const result of state.image?.results.filter(({ key }) => key === keyOf(view)) ?? []) {
    const explanation = result.response.explanations.find(({ index }) => index === view.target);
    if (explanation) return { ...result, explanation };
  }
  return undefined;
}

/** Change what a view shows; a contrast ends where the method or the class does not allow it. */
export function change(view, changes) {
  Object.assign(view, changes);
  if (view.versus === view.target || !allowsContrast(methodOf(view))) view.versus = undefined;
}
