// Choosing a class: the most probable ones with their bars, and a search through all of them.

import { element } from "./dom.js";
import { percent, significant, text } from "./texts.js";

const MAX_MATCHES = 50;

/**
 * Show classes as radio buttons; their `change` event bubbles up from `list`.
 *
 * @param {HTMLElement} list that contains them
 * @param {{index: number, label: string, probability: number, strength?: number}[]} classes
 * @param {number} chosen index of a class
 */
export function listClasses(list, classes, chosen) {
  const focused = list.contains(document.activeElement);
  list.replaceChildren(...classes.map((entry) => radioRow(entry, entry.index === chosen)));
  if (focused) list.querySelector("input:checked")?.focus();
}

/** A class with its probability as a bar and a number, and the strength of its map if it is explained. */
export function bar(entry) {
  const track = element("span", "bar");
  const length = element("span", "length");
  length.style.width = `${100 * entry.probability}%`;
  track.append(length);
  const name = element("span", "label", entry.label);
  const strength = entry.strength === undefined ? "" : text("strength.value", { value: significant(entry.strength) });
  return [name, element("span", "probability", percent(entry.probability)), track, element("span", "strength", strength)];
}

/** A class as a radio button of the group with this name; its value is the class's index. */
export function radioRow(entry, checked, group = "class") {
  const label = element("label", "class");
  const radio = element("input");
  radio.type = "radio";
  radio.name = group;
  radio.value = entry.index;
  radio.checked = checked;
  label.append(radio, ...bar(entry));
  return label;
}

/** A search box that finds classes by a part of their label, or by index. */
export class ClassSearch {
  /**
   * @param {HTMLInputElement} input
   * @param {HTMLElement} list of the matches
   * @param {HTMLElement} status that announces the number of matches
   * @param {() => string[]} labels of all classes; none if they are unknown
   * @param {(target: number | string) => void} choose receives an index, or a label if the labels are unknown
   */
  constructor(input, list, status, labels, choose) {
    Object.assign(this, { input, list, status, labels, choose, matches: [], active: -1 });
    input.addEventListener("input", () => this.find());
    input.addEventListener("keydown", (event) => this.press(event));
    input.addEventListener("blur", () => this.close());
    // Otherwise the input loses the focus and closes the list before the click.
    list.addEventListener("pointerdown", (event) => event.preventDefault());
    list.addEventListener("click", (event) => {
      const option = event.target.closest("[role=option]");
      if (option) this.pick([...list.children].indexOf(option));
    });
  }

  find() {
    const typed = this.input.value.trim();
    const labels = this.labels();
    this.matches = typed ? search(labels, typed).slice(0, MAX_MATCHES) : [];
    const count = this.matches.length;
    this.active = count ? 0 : -1;
    this.list.replaceChildren(...this.matches.map((index) => this.option(index, labels[index])));
    this.list.hidden = count === 0;
    this.input.setAttribute("aria-expanded", String(count > 0));
    this.status.textContent = typed && labels.length ? text(count ? "search.count" : "search.none", { count }) : "";
    this.mark();
  }

  press(event) {
    const last = this.matches.length - 1;
    const moves = { ArrowDown: Math.min(last, this.active + 1), ArrowUp: Math.max(0, this.active - 1) };
    if (event.key in moves && this.matches.length) {
      event.preventDefault();
      this.active = moves[event.key];
      this.mark();
    } else if (event.key === "Enter") {
      this.pick(this.active);
    } else if (event.key === "Escape") {
      this.close();
    }
  }

  pick(position) {
    const target = position >= 0 ? this.matches[position] : this.input.value.trim();
    if (target === "") return;
    this.input.value = "";
    this.close();
    this.choose(target);
  }

  close() {
    this.matches = [];
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

  option(index, label) {
    const option = element("li", "", label);
    option.id = `class-${index}`;
    option.setAttribute("role", "option");
    option.append(element("span", "number", String(index)));
    return option;
  }
}

/** Indices of the matching classes: that index, labels with the text as a word, labels that start with it, others. */
export function search(labels, typed) {
  const query = typed.trim().toLowerCase();
  const rank = (label, index) => {
    const name = label.toLowerCase();
    if (String(index) === query) return 0;
    if (name.split(/[^\p{L}\p{N}]+/u).includes(query)) return 1;
    if (name.startsWith(query)) return 2;
    return name.includes(query) ? 3 : 4;
  };
  const ranked = labels.map((label, index) => [rank(label, index), index]).filter(([place]) => place < 4);
  return ranked.sort(([a, i], [b, j]) => a - b || i - j).map(([, index]) => index);
}
