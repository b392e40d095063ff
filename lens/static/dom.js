// Short ways to find and to create elements.

/** The element with this id. */
export function byId(id) {
  return document.getElementById(id);
}

/** A new element, with a class and a text if these are passed. */
export function element(tag, className = "", content = "") {
  const created = document.createElement(tag);
  if (className) created.className = className;
  if (content) created.textContent = content;
  return created;
}

/** A new entry of a `<select>`. */
export function option(value, label) {
  const created = element("option", "", label);
  created.value = value;
  return created;
}
