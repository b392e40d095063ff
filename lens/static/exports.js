// Exporting the session: as a report that opens from disk, as CSV, or as JSON; and printing what is shown.

import * as api from "./api.js";
import { byId } from "./dom.js";
import { download } from "./downloads.js";
import { firstResult, state } from "./state.js";
import { showError } from "./status.js";
import * as background from "./background.js";
import { listedImages } from "./strip.js";

const COLUMNS = ["file", "expected", "index", "label", "probability", "strength", "method", "layer"];
const MODEL_COLUMNS = ["model", "version", "weights", "time", "error"];
// Pixels of the longer side of a report's images.
const REPORT_SIDE = 480;

/** Listen to the buttons. */
export function listenToExports() {
  byId("export-report").addEventListener("click", exportReport);
  byId("export-csv").addEventListener("click", exportCsv);
  byId("export-json").addEventListener("click", exportJson);
  byId("print").addEventListener("click", () => print());
}

/** Save the images of the strip as a report. */
async function exportReport() {
  try {
    const { page } = await api.reportPage(state.model);
    const [head, tail] = page.split("<!-- entries -->");
    const parts = [head];
    for (const image of listedImages()) parts.push(await reportEntry(image));
    download(new Blob([...parts, tail], { type: "text/html" }), `${state.model}.report.html`);
  } catch (error) {
    showError(error);
  }
}

async function reportEntry(image) {
  const result = firstResult(image);
  if (!result) return dataScript("error", { name: image.name, message: image.error || "–" });
  const thumbnail = await background.thumbnail(image.file, REPORT_SIDE).catch(() => image.thumbnail);
  const extra = { ...(image.expected !== undefined && { expected: image.expected }) };
  const { response } = result;
  const explanations = explanationsLike(image, result);
  const shown = { name: image.name, thumbnail: await dataUrl(thumbnail) };
  return dataScript("entry", { ...shown, ...response, explanations, ...extra });
}

/** All explanations of an image with the method and layer of a result; among them that of the expected class. */
function explanationsLike(image, { key }) {
  const all = image.results.filter((result) => result.key === key).flatMap(({ response }) => response.explanations);
  return [...new Map(all.toReversed().map((entry) => [entry.index, entry])).values()].toReversed();
}

/** A script element with data; names and labels cannot end it. */
function dataScript(kind, value) {
  const json = JSON.stringify(value).replaceAll("<", "\\u003c");
  return `<script type="application/json" class="${kind}">${json}</script>\n`;
}

function dataUrl(blob) {
  return new Promise((resolve) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.readAsDataURL(blob);
  });
}

/** Save the predictions of the strip's images as CSV, one row per image. */
function exportCsv() {
  const lines = [[...COLUMNS, ...MODEL_COLUMNS], ...listedImages().map(csvRow)];
  const content = lines.map((cells) => cells.map(csvCell).join(",")).join("\r\n");
  download(new Blob([`${content}\r\n`], { type: "text/csv" }), `${state.model}.csv`);
}

function csvRow(image) {
  const result = firstResult(image);
  const row = [image.name, image.expected ?? ""];
  if (!result) return [...row, ...new Array(10).fill(""), image.error];
  const { predictions, explanations, method, layer, model } = result.response;
  const [best] = predictions;
  const { strength } = explanations.find(({ index }) => index === best.index) ?? {};
  const { name, version, weights } = model;
  const explained = [best.index, best.label, best.probability, strength ?? "", method, [layer].flat().join(" ")];
  return [...row, ...explained, name, version, weights, result.time.toISOString(), ""];
}

/** A cell; a spreadsheet must not take a file's name for a formula. */
function csvCell(value) {
  const cell = typeof value === "string" && /^[=+\-@\t\r]/.test(value) ? `'${value}` : String(value);
  return /[",\r\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell;
}

/** Save everything that the server has answered about the strip's images as JSON. */
function exportJson() {
  const images = listedImages().map(({ name, expected, error, results }) => ({
    file: name,
    expected,
    error: error || undefined,
    answers: results.map(({ options, response, time }) => ({ options, time: time.toISOString(), response })),
  }));
  download(new Blob([JSON.stringify({ images }, null, 2)], { type: "application/json" }), `${state.model}.json`);
}
