// A report: explained pictures in one file that opens from disk. `scripts/report.py` writes the file.

import { bar, row } from "./classes.js";
import { Figure, element } from "./figure.js";
import { Look } from "./look.js";
import { moment, preferred, speak, text } from "./texts.js";

const at = (id) => document.getElementById(id);
const read = (selector) => [...document.querySelectorAll(selector)].map((script) => JSON.parse(script.textContent));

const [about] = read("#about");
const entries = read(".entry");

/** One picture with its classes; drawn while it is near the window, so that thousands of them fit in memory. */
class Card {
  constructor(entry, number) {
    this.entry = entry;
    this.number = number;
    this.chosen = entry.explanations[0];
    this.figure = new Figure("", "h3");
    this.figure.badge.hidden = true;
    this.element = element("article", "card");
    this.classes = element("div");
    this.element.append(element("h2", "", entry.name), this.figure.element, this.classes);
    const { width, height } = entry.image;
    this.figure.stage.style.aspectRatio = `${width} / ${height}`;
    this.labels = [...entry.predictions, ...entry.explanations].map(({ label }) => label.toLowerCase());
  }

  /** Lists the explained classes, to choose from where there are several, and the other probable ones. */
  list() {
    const { predictions, explanations } = this.entry;
    const explained = new Set(explanations.map(({ index }) => index));
    const choices = element("fieldset");
    const choose = (index) => {
      this.chosen = explanations.find((explanation) => explanation.index === index);
      this.show();
    };
    choices.append(element("legend", "visually-hidden", text("classes")));
    choices.append(...explanations.map((entry) => row(entry, entry === this.chosen, choose, `class-${this.number}`)));
    const plain = element("div", "plain");
    plain.append(...predictions.filter(({ index }) => !explained.has(index)).map(plainRow));
    this.classes.replaceChildren(...(explanations.length > 1 ? [choices, plain] : [plain]));
  }

  async show() {
    this.picture ??= await pixels(this.entry.thumbnail);
    if (!this.visible) return;
    const { name, image } = this.entry;
    this.figure.show({ name, picture: this.picture, image, explanation: this.chosen }, look.value);
  }

  hide() {
    this.picture = undefined;
    this.figure.clear();
  }

  /** Whether a filter lets it through. */
  fits({ label, from, to }) {
    const [{ probability }] = this.entry.predictions;
    return probability >= from && probability <= to && this.labels.some((known) => known.includes(label));
  }
}

function plainRow(entry) {
  const made = element("div", "class");
  made.append(...bar(entry));
  return made;
}

/** Decodes a thumbnail. */
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

const look = new Look(() => {
  for (const card of cards) if (card.figure.shown) card.figure.draw(look.value);
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
  const wanted = {
    label: at("label").value.trim().toLowerCase(),
    from: Number(at("from").value) / 100,
    to: Number(at("to").value) / 100,
  };
  let shown = 0;
  for (const card of cards) {
    card.element.hidden = !card.fits(wanted);
    shown += card.element.hidden ? 0 : 1;
  }
  at("count").textContent = text("report.count", { shown, all: cards.length });
  at("none").hidden = shown > 0 || cards.length === 0;
}

function talk(language) {
  speak(language, about.texts[language]);
  at("language").value = language;
  document.title = text("report.title");
  const time = moment(new Date(about.time));
  const [{ method, layer } = { method: "–", layer: "–" }] = entries;
  at("made").textContent = text("report.made", { time, model: about.model, method, layer: [layer].flat().join(", ") });
  look.render();
  filter();
  for (const card of cards) {
    card.list();
    if (card.figure.shown) card.show();
  }
}

function error({ name, message }) {
  const made = element("li");
  made.append(element("b", "", name), message);
  return made;
}

const errors = read(".error");
at("error-list").append(...errors.map(error));
at("errors").hidden = errors.length === 0;
at("cards").append(...cards.map((card) => card.element));
for (const id of ["label", "from", "to"]) at(id).addEventListener("input", filter);
at("language").addEventListener("change", () => talk(at("language").value));
talk(preferred());
for (const card of cards) observer.observe(card.element);
