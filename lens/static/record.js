// What a printed page says about the map that is shown: enough for a patient's or an auditor's record.

import { byId, element } from "./dom.js";
import { dateTime, percent, significant, text } from "./texts.js";

/** Fill in the record of an image and of what is shown of it; it appears in print only. */
export function renderRecord(image, result) {
  const facts = result ? factsOf(image, result) : [];
  byId("record").replaceChildren(
    ...facts.flatMap(([name, value]) => [element("dt", "", text(name)), element("dd", "", value)]),
  );
}

function factsOf(image, { response, explanation, time }) {
  const { label, probability, strength, versus } = explanation;
  const { method, layer, model } = response;
  const shown = versus ? `${label} ${text("versus.value", { label: versus.label })}` : label;
  const [best] = response.predictions;
  return [
    ["record.file", image.name],
    ["record.prediction", `${best.label} ${percent(best.probability)}`],
    ["expected", image.expected ?? text("expected.none")],
    ["record.class", shown],
    ["record.probability", percent(probability)],
    ["strength", significant(strength)],
    ["method", method],
    ["layer", [layer].flat().join(", ")],
    ["model", `${model.name} ${model.version}`],
    ["about.weights", `${model.weights}…`],
    ["record.time", dateTime(time)],
  ];
}
