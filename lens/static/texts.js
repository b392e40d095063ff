// The page's texts in the user's language; one file per language, with the same keys.

export const LANGUAGES = ["en", "de"];
const STORAGE_KEY = "lens.language";

let texts = {};
/** Locale of numbers and times: the user's variant of the language. */
let locale = LANGUAGES[0];

/** The language chosen earlier, or the browser's first one that is available. */
export function preferred() {
  const candidates = [stored(), ...navigator.languages.map((tag) => tag.slice(0, 2))];
  return candidates.find((tag) => LANGUAGES.includes(tag)) ?? LANGUAGES[0];
}

/** Switch to this language, with the texts of its file. */
export function useLanguage(tag, entries) {
  locale = navigator.languages.find((candidate) => candidate.startsWith(tag)) ?? tag;
  texts = entries;
  document.documentElement.lang = tag;
  try {
    localStorage.setItem(STORAGE_KEY, tag);
  } catch {
    // Pages from disk, and some browsers, have no storage.
  }
  translate(document);
}

/** Fill in the texts of a document: content by `data-text`, attributes by `data-text-NAME`. */
export function translate(root) {
  for (const element of root.querySelectorAll("[data-text]")) element.textContent = text(element.dataset.text);
  for (const name of ["label", "placeholder", "title"]) {
    for (const element of root.querySelectorAll(`[data-text-${name}]`)) {
      const content = text(element.getAttribute(`data-text-${name}`));
      element.setAttribute(name === "label" ? "aria-label" : name, content);
    }
  }
}

/** The text with this key, with `{name}` replaced by the value of that name. */
export function text(key, values = {}) {
  return (texts[key] ?? key).replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

/** Whether a text with this key exists. */
export function hasText(key) {
  return key in texts;
}

/** A number from 0 to 1 as a percentage; a small positive one reads "< 0.1%", never "0.0%". */
export function percent(value, digits = 1) {
  const format = { style: "percent", minimumFractionDigits: digits, maximumFractionDigits: digits };
  const smallest = 10 ** -(digits + 2);
  const formatted = new Intl.NumberFormat(locale, format).format(Math.max(value, value > 0 ? smallest : 0));
  return value > 0 && value < smallest ? `< ${formatted}` : formatted;
}

/** A number with this many decimals. */
export function decimal(value, digits = 2) {
  const format = { minimumFractionDigits: digits, maximumFractionDigits: digits };
  return new Intl.NumberFormat(locale, format).format(value);
}

/** A number with three significant digits. */
export function significant(value) {
  return new Intl.NumberFormat(locale, { maximumSignificantDigits: 3 }).format(value);
}

/** A date with its time. */
export function dateTime(time) {
  return new Intl.DateTimeFormat(locale, { dateStyle: "long", timeStyle: "short" }).format(time);
}

function stored() {
  try {
    return localStorage.getItem(STORAGE_KEY);
  } catch {
    return null;
  }
}
