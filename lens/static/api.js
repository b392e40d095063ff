// Requests to the server that this page came from, which passes them to TorchServe.

// Passing troubles: no server, no worker yet, too busy, too slow, a worker that died. Later the same request may go well.
const UNAVAILABLE = new Set([500, 502, 503, 504, 507]);

/** What the server says is wrong, in its own words. */
export class ServerError extends Error {
  constructor(message, code, unavailable) {
    super(message);
    this.code = code;
    this.unavailable = unavailable;
  }
}

/** What there is: the names of the models and of the samples, the largest body that is taken. */
export function overview() {
  return get("api/overview");
}

/** What a model says about itself: labels, methods, layers; all empty where the server may not ask. */
export function describe(model) {
  return get(`api/models/${encodeURIComponent(model)}`);
}

/** Whether TorchServe answers again. */
export async function isThere() {
  try {
    await get("ping");
    return true;
  } catch {
    return false;
  }
}

/**
 * Has a picture classified and explained.
 *
 * @param {string} model
 * @param {Blob} file
 * @param {Object<string, string>} options as the handler takes them
 * @param {AbortSignal} signal
 * @returns {Promise<object>} the answer
 */
export function predict(model, file, options, signal) {
  const form = new FormData();
  // Without a type of its own TorchServe hands the bytes on as they are.
  form.append("data", new Blob([file], { type: "application/octet-stream" }), "picture");
  for (const [name, value] of Object.entries(options)) form.append(name, value);
  return request(predictions(model), { method: "POST", body: form, signal });
}

/** The address that takes pictures, relative to the page. */
export function predictions(model) {
  return `predictions/${encodeURIComponent(model)}`;
}

/** A file that the server has. */
export async function sample(name) {
  const response = await fetch(`samples/${encodeURIComponent(name)}`);
  return new File([await response.blob()], name);
}

function get(path) {
  return request(path, { cache: "no-store" });
}

async function request(path, options) {
  const response = await fetch(path, options).catch((error) => {
    if (error.name === "AbortError") throw error;
    throw new ServerError(error.message, "network", true);
  });
  const body = await response.json().catch(() => null);
  if (response.ok && body !== null) return body;
  // The handler's errors have another form than TorchServe's own.
  const { code, message } = body?.error ?? { code: body?.type, message: body?.message };
  throw new ServerError(message ?? `HTTP ${response.status}`, code ?? "", UNAVAILABLE.has(response.status));
}
