// The session in IndexedDB: images and results stay on this device until the user deletes them.

const DATABASE = "lens";
const STORE = "images";

let opened;

/** The stored images, in the order in which they were added; none where the browser stores nothing. */
export async function load() {
  const records = await perform("readonly", (store) => store.getAll()).catch(() => []);
  return records.sort((a, b) => a.added - b.added).map((record) => ({ ...record, drawable: record.file }));
}

/** Store an image with its results; a browser that stores nothing keeps it until the page is closed. */
export async function save({ id, name, file, added, results, error, thumbnail, expected }) {
  const record = { id, name, file, added, results, error, thumbnail, expected };
  await perform("readwrite", (store) => store.put(record)).catch(() => undefined);
}

/** Delete all stored images. */
export async function clear() {
  await perform("readwrite", (store) => store.clear()).catch(() => undefined);
}

async function perform(mode, action) {
  opened ??= open();
  const database = await opened;
  return await finished(action(database.transaction(STORE, mode).objectStore(STORE)));
}

function open() {
  const request = indexedDB.open(DATABASE, 1);
  request.onupgradeneeded = () => request.result.createObjectStore(STORE, { keyPath: "id" });
  return finished(request);
}

function finished(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}
