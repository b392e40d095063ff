// The address of what is shown, after the page's own: image, class, method, layer, contrast. It leads back within the
// session, as long as the image is not deleted.

import { activeView, resultOf, state } from "./state.js";

/** Put what the active figure shows into the address. */
export function writeLink() {
  const view = activeView();
  if (!state.image?.preview || !resultOf(view)) return;
  const { target, method, layer, versus } = view;
  const values = { image: state.image.id, class: target, method, layer, versus };
  const kept = Object.entries(values).filter(([, value]) => value !== undefined && value !== "");
  history.replaceState(null, "", `#${new URLSearchParams(kept)}`);
}

/** Remove the address of what was shown. */
export function clearLink() {
  history.replaceState(null, "", location.pathname);
}

/** The image that the address names, and what to show of it; undefined: none. */
export function readLink() {
  const values = new URLSearchParams(location.hash.slice(1));
  const image = state.images.find(({ id }) => id === values.get("image"));
  if (!image) return undefined;
  const number = (name) => (values.has(name) ? Number(values.get(name)) : undefined);
  const view = { method: values.get("method") ?? "", layer: values.get("layer") ?? "" };
  return { image, view: { ...view, target: number("class"), versus: number("versus") } };
}
