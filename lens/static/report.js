// A report: explained images in one file that opens from disk. `tools/client/html_report.py` writes the file.

import { bar, radioRow } from "./classes.js";
import { DisplayControls } from "./display.js";
import { byId, element } from "./dom.js";
import { Figure } from "./figure.js";
import { dateTime, percent, preferred, text, useLanguage } from "./texts.js";

const readJson = (selector) => [...document.querySelectorAll(selector)].map((script) => JSON.parse(script.textContent));

const [about] = readJson("#about");
const entries = readJson(".entry");

/** One image with its classes; drawn only near the window, so that thousands of them fit into memory. */
class Card {
  constructor(entry, number) {
    this.entry = entry;
    this.number = number;
    [this.chosen] = entry.explanations;
    this.figure = new Figure("", "h3");
    this.figure.badge.hidden = true;
    this.element = element("article", "card");
    this.classes = element("div");
    this.prediction = element("p", "prediction");
    this.mapOf = element("span", "map-of");
    this.figure.title.before(this.mapOf);
    this.element.append(element("h2", "", entry.name), this.prediction, this.figure.element, this.classes);
    const { width, height } = entry.image;
    this.figure.stage.style.aspectRatio = `${width} / ${height}`;
    this.labels = [...entry.predictions, ...entry.explanations].map(({ label }) => label.toLowerCase());
  }

  /** List the explained classes, as radio buttons if there are several, and the other probable ones. */
  list() {
    const { predictions, explanations } = this.entry;
    const [{ label, probability }] = predictions;
    this.prediction.textContent = text("report.prediction", { label, probability: percent(probability) });
    this.mapOf.textContent = text("report.map");
    const explained = new Set(explanations.map(({ index }) => index));
    const choices = element("fieldset");
    choices.append(element("legend", "visually-hidden", text("classes")));
    choices.append(...explanations.map((entry) => radioRow(entry, entry === this.chosen, `class-${this.number}`)));
    choices.addEventListener("change", (event) => {
      this.chosen = explanations.find(({ index }) => index === Number(event.target.value));
      this.show();
    });
    const others = element("div", "plain");
    others.append(...predictions.filter(({ index }) => !explained.has(index)).map(plainRow));
    this.classes.replaceChildren(...(explanations.length > 1 ? [choices, others] : [others]));
  }

  async show() {
    this.preview ??= await pixels(this.entry.thumbnail);
    if (!this.visible) return;
    const { name, image, method } = this.entry;
    const explanation = this.chosen;
    const content = { name, preview: this.preview, image, explanation, method, strongest: explanation.strength };
    this.figure.show(content, displayControls.value);
  }

  hide() {
    this.preview = undefined;
    this.figure.clear();
  }

  /** Whether the card matches a filter: a part of a listed label, and the probability of the predicted class. */
  matches({ label, from, to }) {
    const [{ probability }] = this.entry.predictions;
    return probability >= from && probability <= to && this.labels.some((candidate) => candidate.includes(label));
  }
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

const displayControls = new DisplayControls(() => {
  for (const card of cards) if (card.figure.content) card.figure.draw(displayControls.value);
});
const cards = entries.map((entry, number) => new Card(entry, number));
const byElement = new Map(cards.map((card) => [card.element, card]));

const observer = new IntersectionObserver(
  (changes) => {
    for (const { target, isIntersecting } of changes) {
      const card = byElement.get(target);
      card.visible = isIntersecting;
      if (isIntersecting) card.show();
      else card.hide();
    }
  },
  { rootMargin: "50%" },
);

function filter() {
  const conditions = {
    label: byId("label").value.trim().toLowerCase(),
    from: Number(byId("from").value) / 100,
    to: Number(byId("to").value) / 100,
  };
  let shown = 0;
  for (const card of cards) {
    card.element.hidden = !card.matches(conditions);
    shown += card.element.hidden ? 0 : 1;
  }
  byId("count").textContent = text("report.count", { shown, all: cards.length });
  byId("none").hidden = shown > 0 || cards.length === 0;
}

function changeLanguage(language) {
  useLanguage(language, about.texts[language]);
  byId("language").value = language;
  document.title = text("report.title");
  const time = dateTime(new Date(about.time));
  const [{ method, layer } = { method: "–", layer: "–" }] = entries;
  const layers = [layer].flat().join(", ");
  byId("created").textContent = text("report.created", { time, model: models(), method, layer: layers });
  displayControls.render();
  filter();
  for (const card of cards) {
    card.list();
    if (card.figure.content) card.show();
  }
}

/** The models that answered, each with its version and weights; several if one was replaced during the run. */
function models() {
  const answered = new Set(entries.map(({ model }) => text("provenance", model)));
  return [...answered].join("; ") || text("report.model", { name: about.model });
}

function errorItem({ name, message }) {
  const item = element("li");
  item.append(element("b", "", name), message);
  return item;
}

const errors = readJson(".error");
byId("error-list").append(...errors.map(errorItem));
byId("errors").hidden = errors.length === 0;
byId("cards").append(...cards.map((card) => card.element));
for (const id of ["label", "from", "to"]) byId(id).addEventListener("input", filter);
byId("language").addEventListener("change", () => changeLanguage(byId("language").value));
changeLanguage(preferred());
for (const card of cards) observer.observe(card.element);
