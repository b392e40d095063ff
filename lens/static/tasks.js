// One task at a time: a new task aborts the one in progress, and a task is repeated while the server is unavailable.

import * as api from "./api.js";
import { showCanceled, showDone, showError, showReturn } from "./status.js";

const RETRY_SECONDS = 3;
// Why a task is aborted: the user asked for it, and not for another task.
const CANCELED = new DOMException("Canceled", "AbortError");

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
      if (isCanceled(signal)) showCanceled();
      if (signal.aborted) return;
      showError(error);
      if (!error.unavailable) return;
    }
    await available(signal);
    if (signal.aborted) return;
    showReturn();
  }
}

/** Run the last task again. */
export function retry() {
  return run(lastTask);
}

/** Stop the task in progress; no other one follows. */
export function cancel() {
  controller.abort(CANCELED);
}

/** Whether the user has stopped a task. */
export function isCanceled(signal) {
  return signal.reason === CANCELED;
}

/** Wait until the server responds. */
export async function available(signal) {
  do {
    await new Promise((resolve) => setTimeout(resolve, 1000 * RETRY_SECONDS));
  } while (!signal?.aborted && !(await api.isAvailable()));
}
