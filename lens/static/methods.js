// What the methods' maps mean.

// The others show evidence for the class.
const MEANINGS = { counterfactual: "against", eigencam: "any" };
// Methods that explain a class rather than another one, in a map that depends on both.
const CONTRASTS = new Set(["gradcam", "gradcam++", "xgradcam", "hirescam", "layercam", "eigengradcam"]);

/** Whether the server accepts the option `versus` with this method, and the page can say what the map then means. */
export function allowsContrast(method) {
  return CONTRASTS.has(method);
}

/** What a map shows: evidence "for" or "against" the class, "any" part that stands out, or a "contrast" of two classes. */
export function meaning(method, versus) {
  return versus ? "contrast" : (MEANINGS[method] ?? "for");
}
