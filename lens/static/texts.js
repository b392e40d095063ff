// What the page says, in the reader's language; one file a language, with the same keys.

export const LANGUAGES = ["en", "de"];
const STORED = "lens.language";

let texts = {};
/** How numbers and times are written: the reader's own variety of the language. */
let locale = LANGUAGES[0];

/** The language chosen before, or the first of the browser's that there is. */
export function preferred() {
  const wanted = [stored(), ...navigator.languages.map((tag) => tag.slice(0, 2))];
  return wanted.find((tag) => LANGUAGES.includes(tag)) ?? LANGUAGES[0];
}

/** Speaks this language from now on, with the texts of its file. */
export function speak(tag, spoken) {
  locale = navigator.languages.find((wanted) => wanted.startsWith(tag)) ?? tag;
  texts = spoken;
  document.documentElement.lang = tag;
  try {
    localStorage.setItem(STORED, tag);
  } catch {
    // A page from disk, or a browser that keeps nothing.
  }
  translate(document);
}

/** Fills in all that has a text of its own in the document: `data-text`, and attributes by `data-text-NAME`. */
export function translate(root) {
  for (const element of root.querySelectorAll("[data-text]")) element.textContent = text(element.dataset.text);
  for (const name of ["label", "placeholder", "title"]) {
    for (const element of root.querySelectorAll(`[data-text-${name}]`)) {
      const said = text(element.getAttribute(`data-text-${name}`));
      element.setAttribute(name === "label" ? "aria-label" : name, said);
    }
  }
}

/** A text, with `{name}` replaced by the value of that name. */
export function text(key, values = {}) {
  return (texts[key] ?? key).replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

/** Whether there is such a text. */
export function has(key) {
  return key in texts;
}

/** A number from 0 to 1 as per cent; what is more than nothing never looks like nothing. */
export function percent(value, digits = 1) {
  const format = { style: "percent", minimumFractionDigits: digits, maximumFractionDigits: digits };
  const least = 10 ** -(digits + 2);
  const shown = new Intl.NumberFormat(locale, format).format(Math.max(value, value > 0 ? least : 0));
  return value > 0 && value < least ? `< ${shown}` : shown;
}

/** A number with so many digits behind the point. */
export function decimal(value, digits = 2) {
  const format = { minimumFractionDigits: digits, maximumFractionDigits: digits };
  return new Intl.NumberFormat(locale, format).format(value);
}

/** A day and the time of it. */
export function moment(time) {
  return new Intl.DateTimeFormat(locale, { dateStyle: "long", timeStyle: "short" }).format(time);
}

function stored() {
  try {
    return localStorage.getItem(STORED);
  } catch {
    return null;
  }
}
