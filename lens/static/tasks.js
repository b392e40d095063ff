// One task at a time: a new task aborts the one in progress, and a task is repeated while the server is unavailable.

import * as api from "./api.js";
import { showDone, showError, showStatus } from "./status.js";
import { text } from "./texts.js";

const RETRY_SECONDS = 3;

let controller = new AbortController();
let lastTask;

/**
 * Run a task, again and again while the server is unavailable.
 *
 * @param {(signal: AbortSignal) => Promise<void>} task
 */
export async function run(task) {
  controller.abort();
  const { signal } = (controller = new AbortController());
  lastTask = task;
  for (;;) {
    try {
      await task(signal);
      if (!signal.aborted) showDone();
      return;
    } catch (error) {
      if (signal.aborted) return;
      showError(error);
      if (!error.unavailable) return;
    }
    await available(signal);
    if (signal.aborted) return;
    showStatus(text("available"));
  }
}

/** Run the last task again. */
export function retry() {
  return run(lastTask);
}

/** Wait until the server responds. */
async function available(signal) {
  do {
    await new Promise((resolve) => setTimeout(resolve, 1000 * RETRY_SECONDS));
  } while (!signal.aborted && !(await api.isAvailable()));
}
