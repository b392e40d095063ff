// Choosing a class: the probable ones with their bars, and a search through all of them.

import { element } from "./figure.js";
import { percent, text } from "./texts.js";

const MOST_FOUND = 50;

/**
 * A list of classes of which one is chosen, as radio buttons.
 *
 * @param {HTMLElement} list that takes them
 * @param {{index: number, label: string, probability: number}[]} classes
 * @param {number} chosen index of a class
 * @param {(index: number) => void} choose
 */
export function listClasses(list, classes, chosen, choose) {
  const focused = list.contains(document.activeElement);
  list.replaceChildren(...classes.map((entry) => row(entry, entry.index === chosen, choose)));
  if (focused) list.querySelector("input:checked")?.focus();
}

/** A class with its probability as a bar and a number. */
export function bar(entry) {
  const shown = element("span", "bar");
  const length = element("span", "length");
  length.style.width = `${100 * entry.probability}%`;
  shown.append(length);
  return [element("span", "label", entry.label), element("span", "probability", percent(entry.probability)), shown];
}

/** A class as a radio button of the group of that name. */
export function row(entry, checked, choose, group = "class") {
  const label = element("label", "class");
  const radio = element("input");
  radio.type = "radio";
  radio.name = group;
  radio.value = entry.index;
  radio.checked = checked;
  radio.addEventListener("change", () => choose(entry.index));
  label.append(radio, ...bar(entry));
  return label;
}

/** A box that finds classes by a part of their name, or by number. */
export class Search {
  /**
   * @param {HTMLInputElement} input
   * @param {HTMLElement} list of what is found
   * @param {HTMLElement} status that says how many
   * @param {(target: number | string) => void} choose takes an index; a name where the labels are not known
   */
  constructor(input, list, status, choose) {
    Object.assign(this, { input, list, status, choose, labels: [], found: [], active: -1 });
    input.addEventListener("input", () => this.find());
    input.addEventListener("keydown", (event) => this.press(event));
    input.addEventListener("blur", () => this.close());
    // The list must not take the focus before the click is done.
    list.addEventListener("pointerdown", (event) => event.preventDefault());
    list.addEventListener("click", (event) => {
      const option = event.target.closest("[role=option]");
      if (option) this.take([...list.children].indexOf(option));
    });
  }

  find() {
    this.found = this.input.value.trim() ? search(this.labels, this.input.value).slice(0, MOST_FOUND) : [];
    this.active = this.found.length ? 0 : -1;
    this.list.replaceChildren(...this.found.map((index) => this.option(index)));
    this.list.hidden = this.found.length === 0;
    this.input.setAttribute("aria-expanded", String(this.found.length > 0));
    const said = this.found.length ? "search.count" : "search.none";
    this.status.textContent = this.input.value.trim() && this.labels.length ? text(said, { count: this.found.length }) : "";
    this.mark();
  }

  press(event) {
    const last = this.found.length - 1;
    const moves = { ArrowDown: Math.min(last, this.active + 1), ArrowUp: Math.max(0, this.active - 1) };
    if (event.key in moves && this.found.length) {
      event.preventDefault();
      this.active = moves[event.key];
      this.mark();
    } else if (event.key === "Enter") {
      this.take(this.active);
    } else if (event.key === "Escape") {
      this.close();
    }
  }

  take(position) {
    const typed = this.input.value.trim();
    const target = position >= 0 ? this.found[position] : typed;
    if (target === "") return;
    this.input.value = "";
    this.close();
    this.choose(target);
  }

  close() {
    this.found = [];
    this.active = -1;
    this.list.hidden = true;
    this.list.replaceChildren();
    this.input.setAttribute("aria-expanded", "false");
    this.input.removeAttribute("aria-activedescendant");
  }

  mark() {
    for (const [position, option] of [...this.list.children].entries()) {
      option.setAttribute("aria-selected", String(position === this.active));
    }
    const marked = this.list.children[this.active];
    if (!marked) return;
    this.input.setAttribute("aria-activedescendant", marked.id);
    marked.scrollIntoView({ block: "nearest" });
  }

  option(index) {
    const option = element("li", "", this.labels[index]);
    option.id = `class-${index}`;
    option.setAttribute("role", "option");
    option.append(element("span", "number", String(index)));
    return option;
  }
}

/** Indices of the classes that fit: that number first, then names that begin so, then names that contain it. */
export function search(labels, typed) {
  const wanted = typed.trim().toLowerCase();
  const rank = (label, index) => {
    const name = label.toLowerCase();
    if (String(index) === wanted) return 0;
    if (name.startsWith(wanted)) return 1;
    return name.includes(wanted) ? 2 : 3;
  };
  const ranked = labels.map((label, index) => [rank(label, index), index]).filter(([place]) => place < 3);
  return ranked.sort(([a, i], [b, j]) => a - b || i - j).map(([, index]) => index);
}
