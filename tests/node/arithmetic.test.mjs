// The page's arithmetic on maps, colors and regions, against values computed by hand.
import assert from "node:assert/strict";
import { test } from "node:test";
import { crc32 } from "node:zlib";

import { COLORMAPS } from "../../lens/static/colormaps.js";
import { level, levels, share, valueAt } from "../../lens/static/heatmap.js";
import { blend, scaled } from "../../lens/static/overlay.js";
import { withText } from "../../lens/static/png.js";

test("each color map has 256 colors", () => {
  for (const colors of Object.values(COLORMAPS)) assert.equal(colors.length, 3 * 256);
});

test("jet is blue, green in the middle, and red", () => {
  const color = (at) => [...COLORMAPS.jet.subarray(3 * at, 3 * at + 3)];
  assert.deepEqual([color(0), color(255)], [[0, 0, 128], [128, 0, 0]]);
  const [red, green, blue] = color(128);
  assert.ok(green > 250 && Math.abs(red - blue) < 8);
});

test("levels are interpolated between the centers of the cells", () => {
  // Two cells on four pixels: the pixels' centers are at -0.25, 0.25, 0.75 and 1.25 cells.
  assert.deepEqual([...levels([[0, 1]], 4, 1)], [0, 63, 191, 255]);
  assert.deepEqual([...levels([[0], [1]], 1, 4)], [0, 63, 191, 255]);
});

test("rows may be computed in parts", () => {
  const grid = [[0, 0.5, 1], [1, 0.25, 0]];
  const whole = levels(grid, 7, 9);
  assert.deepEqual([...levels(grid, 7, 9, 0, 4), ...levels(grid, 7, 9, 4, 9)], [...whole]);
});

test("the value at a point is bilinear, and constant beyond the outermost centers", () => {
  const grid = [[0, 1], [0.5, 0]];
  assert.equal(valueAt(grid, 0.25, 0.25), 0);
  assert.equal(valueAt(grid, 0.5, 0.25), 0.5);
  assert.equal(valueAt(grid, 0.5, 0.5), (0 + 1 + 0.5 + 0) / 4);
  assert.equal(valueAt(grid, 1, 0), 1);
});

test("a threshold's level is the lowest that reaches it", () => {
  assert.deepEqual([level(0), level(0.5), level(1)], [0, 128, 255]);
  assert.equal(share(Uint8Array.of(0, 127, 128, 255), 0.5), 0.5);
});

test("colors are blended into the region alone", () => {
  const pixels = Uint8ClampedArray.from({ length: 4 * 3 }, () => 100);
  const display = { colormap: "jet", alpha: 0.25, threshold: 0.5 };
  // Pixel 0 is outside the region, pixel 1 below the threshold, pixel 2 has the strongest color (128, 0, 0).
  const blended = blend(pixels, 3, Uint8Array.of(127, 255), [1, 0, 3, 1], display);
  assert.deepEqual([...blended], [100, 100, 100, 100, 100, 100, 100, 100, 75 + 32, 75, 75, 100]);
});

test("a scaled region has at least one pixel", () => {
  assert.deepEqual(scaled([10, 20, 30, 41], 0.5), [5, 10, 15, 21]);
  assert.deepEqual(scaled([10, 20, 11, 21], 0.01), [0, 0, 1, 1]);
});

test("a text chunk has its length, type and checksum", async () => {
  const header = new Uint8Array(33).fill(7);
  const file = new Uint8Array(await withText(new Blob([header, "rest"]), { Model: "résumé" }).arrayBuffer());
  const view = new DataView(file.buffer);
  const content = new TextEncoder().encode("Model\0\0\0\0\0résumé");
  assert.equal(view.getUint32(33), content.length);
  const chunk = file.subarray(37, 41 + content.length);
  assert.deepEqual([...chunk], [...new TextEncoder().encode("iTXt"), ...content]);
  assert.equal(view.getUint32(41 + content.length), crc32(chunk));
  assert.equal(new TextDecoder().decode(file.subarray(-4)), "rest");
});
