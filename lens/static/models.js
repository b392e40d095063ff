// The models that the server offers, and the one that is chosen.

import * as api from "./api.js";
import { byId, element, option } from "./dom.js";
import { emptyView, state } from "./state.js";
import { text } from "./texts.js";

let connecting;

/** Load the overview, once: a task that needs it may abort and follow another one that has begun to load it. */
export function connect() {
  connecting ??= loadOverview().catch((error) => {
    connecting = undefined;
    throw error;
  });
  return connecting;
}

async function loadOverview() {
  state.overview = await api.overview();
  const { models, samples } = state.overview;
  byId("model").replaceChildren(...models.map((name) => option(name, name)));
  byId("model-choice").hidden = models.length === 0;
  byId("samples").replaceChildren(...samples.map(sampleEntry));
  byId("samples-choice").hidden = samples.length === 0;
  await selectModel(models[0]);
}

/** Switch to a model and load its description. */
export async function selectModel(model) {
  Object.assign(state, { model, description: {}, shown: [] });
  byId("model").value = model;
  for (const view of state.views) Object.assign(view, emptyView());
  const description = await api.describe(model);
  if (state.model !== model) return;
  state.description = description;
  discardOutdated();
}

/** Forget stored results of other weights than the model has now. */
export function discardOutdated() {
  const weights = state.description.weights_sha256;
  if (!weights) return;
  const isCurrent = ({ model, response }) => model !== state.model || weights.startsWith(response.model.weights);
  for (const image of state.images) image.results = image.results.filter(isCurrent);
}

/** A sample image as a button. */
function sampleEntry(name) {
  const button = element("button");
  button.type = "button";
  button.dataset.name = name;
  const image = element("img");
  image.src = `samples/${encodeURIComponent(name)}`;
  image.alt = text("sample", { name });
  button.append(image);
  const entry = element("li");
  entry.append(button);
  return entry;
}

/** Update the samples' names to the current language. */
export function translateSamples() {
  for (const button of byId("samples").querySelectorAll("button")) {
    button.querySelector("img").alt = text("sample", { name: button.dataset.name });
  }
}
