// The state of the page, and what follows from it. Nothing here touches the document or the network.

export const state = {
  overview: { models: [], samples: [], max_body_bytes: Infinity },
  /** Name of the chosen model. */
  model: "",
  /** The model's description; without labels if the server has no access to it. */
  description: {},
  /** @type {{name: string, file: Blob, drawable: Blob, preview: ImageData | undefined} | null} */
  image: null,
  /** Explanations received for the image: [{key, options, response, time}] */
  results: [],
  /** What the two figures show: class index (undefined: not known yet), method and layer ("": the model's default). */
  views: [
    { target: undefined, method: "", layer: "" },
    { target: undefined, method: "", layer: "" },
  ],
  comparing: false,
  /** Whether two compared maps have one color scale; otherwise each has the scale of its own maximum. */
  commonScale: false,
  active: 0,
};

export function activeView() {
  return state.views[state.active];
}

export function visibleViews() {
  return state.comparing ? state.views : state.views.slice(0, 1);
}

/** Identifies method and layer of a view; results with the same key can show each other's classes. */
export function keyOf({ method, layer }) {
  return JSON.stringify([method, layer]);
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

/** The most probable classes. */
export function predictions() {
  return state.results[0]?.response.predictions ?? [];
}

/** The most probable classes, then all others that have been explained. */
export function listedClasses() {
  const listed = new Map(predictions().map((entry) => [entry.index, entry]));
  for (const { response } of state.results) {
    for (const entry of response.explanations) if (!listed.has(entry.index)) listed.set(entry.index, entry);
  }
  return [...listed.values()];
}

/** The result that explains what a view shows, together with that explanation; undefined: none yet. */
export function resultOf(view) {
  for (const result of state.results.filter(({ key }) => key === keyOf(view))) {
    const explanation = result.response.explanations.find(({ index }) => index === view.target);
    if (explanation) return { ...result, explanation };
  }
  return undefined;
}
