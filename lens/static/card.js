// A card of a report: one image with its map, or two maps side by side, and its classes.

import { bar, radioRow } from "./classes.js";
import { element } from "./dom.js";
import { Figure } from "./figure.js";
import { decimal, percent, text } from "./texts.js";

/** One image with its classes; drawn only near the window, so that thousands of them fit into memory. */
export class Card {
  /**
   * @param {object} entry of the report: name, thumbnail, and the answer; maybe the expected class, or the answer of
   *   the other version
   * @param {number} number that distinguishes its radio buttons from those of other cards
   * @param {() => object} display current display settings
   */
  constructor(entry, number, display) {
    Object.assign(this, { entry, number, display });
    this.element = element("article", "card");
    this.prediction = element("p", "prediction");
    this.verdict = element("p", "verdict");
    this.classes = element("div");
    this.panels = panelsOf(entry);
    const figures = element("div", this.panels.length > 1 ? "pair" : "");
    figures.append(...this.panels.map(({ figure }) => figure.element));
    this.element.append(element("h2", "", entry.name), this.prediction, this.verdict, figures, this.classes);
    this.labels = [...entry.predictions, ...entry.explanations].map(({ label }) => label.toLowerCase());
  }

  get best() {
    return this.entry.predictions[0];
  }

  /** Whether the map that is shown first has no evidence. */
  get isBlank() {
    return this.entry.explanations.length > 0 && !this.entry.explanations[0].evidence;
  }

  /** Whether the prediction is not what was expected, or what the other version predicts. */
  get disagrees() {
    const { expected, other } = this.entry;
    if (other) return other.predictions[0].label !== this.best.label;
    return expected !== undefined && expected !== this.best.label;
  }

  /** Fill in all texts; list the explained classes, as radio buttons if there are several, and the other ones. */
  list() {
    const { predictions, explanations } = this.entry;
    const { label, probability } = this.best;
    this.prediction.textContent = text("report.prediction", { label, probability: percent(probability) });
    this.verdict.textContent = this.comparison();
    this.verdict.hidden = this.verdict.textContent === "";
    this.verdict.classList.toggle("differs", this.disagrees);
    for (const panel of this.panels) panel.mapOf.textContent = panel.heading();
    const explained = new Set(explanations.map(({ index }) => index));
    const choices = element("fieldset");
    choices.append(element("legend", "visually-hidden", text("classes")));
    const [{ chosen }] = this.panels;
    choices.append(...explanations.map((entry) => radioRow(entry, entry === chosen, `class-${this.number}`)));
    choices.addEventListener("change", (event) => {
      this.panels[0].chosen = explanations.find(({ index }) => index === Number(event.target.value));
      this.show();
    });
    const others = element("div", "plain");
    others.append(...predictions.filter(({ index }) => !explained.has(index)).map(plainRow));
    this.classes.replaceChildren(...(explanations.length > 1 ? [choices, others] : [others]));
  }

  /** What was expected, or what the other version predicts. */
  comparison() {
    const { expected, other, cosine } = this.entry;
    if (other) {
      const [{ label, probability }] = other.predictions;
      const values = { version: other.model.version, label, probability: percent(probability) };
      if (typeof cosine !== "number") return text("report.other", values);
      return text("report.other.cosine", { ...values, cosine: decimal(cosine) });
    }
    if (expected === undefined) return "";
    return text(this.disagrees ? "report.unexpected" : "report.expected", { label: expected });
  }

  async show() {
    this.preview ??= await pixels(this.entry.thumbnail);
    if (!this.visible) return;
    for (const { answer, chosen, figure } of this.panels) {
      const strongest = chosen?.strength ?? 0;
      const { method, image } = answer;
      const content = { name: this.entry.name, preview: this.preview, image, explanation: chosen, method, strongest };
      figure.show(content, this.display());
      figure.element.style.visibility = "visible";
    }
  }

  draw() {
    for (const { figure } of this.panels) if (figure.content) figure.draw(this.display());
  }

  hide() {
    this.preview = undefined;
    for (const { figure } of this.panels) {
      figure.clear();
      figure.element.style.visibility = "hidden";
    }
  }

  /** Whether the card matches a filter: a part of a listed label, the prediction's label and probability, evidence. */
  matches({ label, predicted, from, to, blank }) {
    const { probability } = this.best;
    if (predicted && this.best.label !== predicted) return false;
    if (blank && !this.isBlank) return false;
    return probability >= from && probability <= to && this.labels.some((candidate) => candidate.includes(label));
  }
}

/** The maps of a card: of the prediction; beside it that of the expected class, or of the other version. */
function panelsOf(entry) {
  const { explanations, predictions, expected, other } = entry;
  const version = ({ model }) => text("report.version", { version: model.version });
  if (other) {
    return [
      panel(entry, explanations[0], () => version(entry)),
      panel(other, other.explanations[0], () => version(other)),
    ];
  }
  const wrong = expected !== undefined && expected !== predictions[0].label;
  const wanted = wrong && explanations.find(({ label }) => label === expected);
  if (!wanted) return [panel(entry, explanations[0], () => text("report.map"))];
  const predicted = explanations.find(({ index }) => index === predictions[0].index) ?? explanations[0];
  return [
    panel(entry, predicted, () => text("report.map.predicted")),
    panel(entry, wanted, () => text("report.map.expected")),
  ];
}

function panel(answer, chosen, heading) {
  const figure = new Figure("", "h3");
  const mapOf = element("span", "map-of");
  figure.badge.hidden = true;
  // Until it is drawn, it has no texts.
  figure.element.style.visibility = "hidden";
  figure.title.before(mapOf);
  figure.stage.style.aspectRatio = `${answer.image.width} / ${answer.image.height}`;
  return { answer, chosen: chosen ?? null, figure, mapOf, heading };
}

function plainRow(entry) {
  const row = element("div", "class");
  row.append(...bar(entry));
  return row;
}

/** Decode a thumbnail. */
async function pixels(source) {
  const image = new Image();
  image.src = source;
  await image.decode();
  const canvas = element("canvas");
  canvas.width = image.naturalWidth;
  canvas.height = image.naturalHeight;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  return context.getImageData(0, 0, canvas.width, canvas.height);
}
