// What is known about the chosen model.

import { byId, element } from "./dom.js";
import { firstResult, state } from "./state.js";
import { decimal, percent, text } from "./texts.js";

/** Fill in the dialog about the model; what the server does not tell is left out. */
export function renderAbout() {
  const facts = Object.entries(factsOf(state.description)).filter(([, value]) => value);
  byId("about-facts").replaceChildren(
    ...facts.flatMap(([name, value]) => [element("dt", "", text(`about.${name}`)), element("dd", "", value)]),
  );
  byId("about-unknown").hidden = "architecture" in state.description;
}

function factsOf(description) {
  const { architecture, num_classes: classes, input_size: size, engine, precision } = description;
  const { name, version, weights } = firstResult(state.image)?.response.model ?? {};
  const used = description.effective_precision;
  return {
    name: name ?? state.model,
    version: version ?? description.version,
    weights: description.weights_sha256 ?? weights,
    source: description.weights,
    architecture,
    classes: classes && String(classes),
    activation: description.activation && text(`about.activation.${description.activation}`),
    size: size && text("about.size.value", { height: size[0], width: size[1] }),
    transform: description.transform && text(`about.transform.${description.transform}`, { resize: description.resize_size }),
    interpolation: description.interpolation,
    normalization: description.mean && normalization(description),
    method: description.method,
    methods: description.methods?.join(", "),
    layer: description.layer,
    engine,
    precision: used && used !== precision ? text("about.precision.value", { precision, used }) : precision,
    calibration: calibration(description),
    device: description.device,
  };
}

function normalization({ mean, std }) {
  const list = (values) => values.map((value) => decimal(value, 3)).join(" · ");
  return text("about.normalization.value", { mean: list(mean), std: list(std) });
}

/** How close the precision is to float32, as measured when the archive was built; empty: not measured. */
function calibration(description) {
  const { held_back_images: count, agreement, cosine_median: middle, cosine_worst: worst } = description;
  if (!count) return "";
  const values = { images: description.calibration_images, count, agreement: percent(agreement) };
  return text("about.calibration.value", { ...values, median: decimal(middle, 3), worst: decimal(worst, 3) });
}
