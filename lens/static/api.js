// Requests to the server that this page came from, which passes them on to TorchServe.

// Temporary failures: no server, no worker yet, too busy, too slow, a dead worker. The same request may succeed later.
const UNAVAILABLE = new Set([500, 502, 503, 504, 507]);
// TorchServe responds, but has no worker yet, or too many requests.
const STARTING = 503;

/** A failed request, with the server's message. */
export class ApiError extends Error {
  /**
   * @param {string} message
   * @param {string} code of the error
   * @param {number} status of HTTP; 0: no response
   */
  constructor(message, code, status) {
    super(message);
    this.code = code;
    this.unavailable = status === 0 || UNAVAILABLE.has(status);
    this.starting = status === STARTING;
  }
}

/** The names of the models and of the samples, and the size limit of a request. */
export function overview() {
  return get("api/overview");
}

/** The description of a model: labels, methods, layers; all missing if the server has no access to them. */
export function describe(model) {
  return get(`api/models/${encodeURIComponent(model)}`);
}

/** The page of a report about a model, without entries. */
export function reportPage(model) {
  return get(`api/reports/${encodeURIComponent(model)}`);
}

/** Whether TorchServe responds. */
export async function isAvailable() {
  try {
    await get("ping");
    return true;
  } catch {
    return false;
  }
}

/**
 * Have an image classified and explained.
 *
 * @param {string} model
 * @param {Blob} file
 * @param {Object<string, string>} options of the request, as the handler accepts them
 * @param {AbortSignal} signal
 * @returns {Promise<object>} the response
 */
export function predict(model, file, options, signal) {
  const form = new FormData();
  // With this type TorchServe passes the bytes on unchanged.
  form.append("data", new Blob([file], { type: "application/octet-stream" }), "image");
  for (const [name, value] of Object.entries(options)) form.append(name, value);
  return request(predictionPath(model), { method: "POST", body: form, signal });
}

/** The path that accepts images, relative to the page. */
export function predictionPath(model) {
  return `predictions/${encodeURIComponent(model)}`;
}

/** A sample image. */
export async function sample(name) {
  const response = await send(`samples/${encodeURIComponent(name)}`);
  if (!response.ok) throw new ApiError(`${name}: HTTP ${response.status}`, "", response.status);
  return new File([await response.blob()], name);
}

function get(path) {
  return request(path, { cache: "no-store" });
}

async function request(path, options) {
  const response = await send(path, options);
  const body = await response.json().catch(() => null);
  if (response.ok && body !== null) return body;
  // The handler's errors have another format than TorchServe's own.
  const { code, message } = body?.error ?? { code: body?.type, message: body?.message };
  throw new ApiError(message ?? `HTTP ${response.status}`, code ?? "", response.status);
}

async function send(path, options) {
  return await fetch(path, options).catch((error) => {
    if (options?.signal?.aborted) throw error;
    throw new ApiError(error.message, "network", 0);
  });
}
