// A report: explained images in one file that opens from disk. `tools/client/html_report.py` writes the file.
//
//   report ─▶ card ─▶ figure, classes
//     └────▶ summary          display, texts, dom: used by all

import { Card } from "./card.js";
import { DisplayControls } from "./display.js";
import { byId, element } from "./dom.js";
import { renderSummary } from "./summary.js";
import { dateTime, preferred, text, useLanguage } from "./texts.js";

const readJson = (selector) => [...document.querySelectorAll(selector)].map((script) => JSON.parse(script.textContent));
const [about] = readJson("#about");
const entries = readJson(".entry");
const errors = readJson(".error");

const displayControls = new DisplayControls(() => {
  for (const card of cards) card.draw();
  renderSummary(cards, errors.length, displayControls.value);
});
const cards = entries.map((entry, number) => new Card(entry, number, () => displayControls.value));
const byElement = new Map(cards.map((card) => [card.element, card]));
/** The predicted class that the summary's table restricts the report to; empty: all. */
let predicted = "";

const ORDERS = {
  given: (a, b) => a.number - b.number,
  differing: (a, b) => b.disagrees - a.disagrees || (a.entry.cosine ?? 1) - (b.entry.cosine ?? 1) || a.number - b.number,
  least: (a, b) => a.best.probability - b.best.probability || a.number - b.number,
  most: (a, b) => b.best.probability - a.best.probability || a.number - b.number,
  label: (a, b) => a.best.label.localeCompare(b.best.label) || a.number - b.number,
};

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
    predicted,
    from: Number(byId("from").value) / 100,
    to: Number(byId("to").value) / 100,
    blank: byId("blank").checked,
  };
  let shown = 0;
  for (const card of cards) {
    card.element.hidden = !card.matches(conditions);
    shown += card.element.hidden ? 0 : 1;
  }
  byId("count").textContent = text("report.count", { shown, all: cards.length });
  byId("none").hidden = shown > 0 || cards.length === 0;
  byId("all-classes").hidden = predicted === "";
  byId("all-classes").textContent = text("report.all", { label: predicted });
}

function restrict(label) {
  predicted = label;
  filter();
}

function sort() {
  const ordered = [...cards].sort(ORDERS[byId("order").value]);
  byId("cards").append(...ordered.map((card) => card.element));
}

function changeLanguage(language) {
  useLanguage(language, about.texts[language]);
  byId("language").value = language;
  document.title = text("report.title");
  const time = dateTime(new Date(about.time));
  const [{ method, layer } = { method: "–", layer: "–" }] = entries;
  const layers = [layer].flat().join(", ");
  byId("created").textContent = text("report.created", { time, model: models(), method, layer: layers });
  const blank = cards.filter((card) => card.isBlank).length;
  byId("blank-label").textContent = text("report.blank", { count: blank });
  byId("blank").disabled = blank === 0;
  displayControls.render();
  renderSummary(cards, errors.length, displayControls.value);
  filter();
  for (const card of cards) {
    card.list();
    if (card.visible) card.show();
  }
}

/** The models that answered, each with its version and weights; several if one was replaced during the run. */
function models() {
  const answers = entries.flatMap((entry) => (entry.other ? [entry, entry.other] : [entry]));
  const answered = new Set(answers.map(({ model }) => text("provenance", model)));
  return [...answered].join("; ") || text("report.model", { name: about.model });
}

function errorItem({ name, message }) {
  const item = element("li");
  item.append(element("b", "", name), message);
  return item;
}

const comparing = entries.some(({ expected, other }) => expected !== undefined || other);
byId("order").querySelector("[value=differing]").hidden = !comparing;
byId("order").value = comparing ? "differing" : "given";
byId("error-list").append(...errors.map(errorItem));
byId("errors").hidden = errors.length === 0;
sort();
for (const id of ["label", "from", "to", "blank"]) byId(id).addEventListener("input", filter);
byId("order").addEventListener("change", sort);
byId("all-classes").addEventListener("click", () => restrict(""));
byId("class-rows").addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button) restrict(button.dataset.label);
});
byId("language").addEventListener("change", () => changeLanguage(byId("language").value));
changeLanguage(preferred());
for (const card of cards) observer.observe(card.element);
