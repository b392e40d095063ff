// Arithmetic on a map: rows of numbers from 0 to 1, on a grid much coarser than the image.

const LEVELS = 256;

/**
 * Resize a map bilinearly and quantize it to levels, as OpenCV and the server do.
 *
 * @param {number[][]} grid
 * @param {number} width of the result
 * @param {number} height of the result
 * @param {number} from first row that is computed
 * @param {number} to row after the last one that is computed
 * @returns {Uint8Array} levels from 0 to 255, (to - from) × width
 */
export function levels(grid, width, height, from = 0, to = height) {
  const values = enlarged(grid, width, height, from, to);
  const result = new Uint8Array(values.length);
  for (let at = 0; at < values.length; at += 1) result[at] = Math.fround((LEVELS - 1) * values[at]);
  return result;
}

/** Resize a map bilinearly, as OpenCV does; values in an array of (to - from) × width. */
export function enlarged(grid, width, height, from = 0, to = height) {
  const across = taps(grid[0].length, width);
  const down = taps(grid.length, height);
  const widened = grid.map((row) => stretched(row, across));
  const result = new Float32Array((to - from) * width);
  for (let y = from, position = 0; y < to; y += 1) {
    const upper = widened[down.first[y]];
    const lower = widened[down.second[y]];
    const share = down.share[y];
    for (let x = 0; x < width; x += 1, position += 1) result[position] = upper[x] * (1 - share) + lower[x] * share;
  }
  return result;
}

/** A map with all values multiplied by a factor. */
export function multiplied(grid, factor) {
  return grid.map((row) => row.map((value) => value * factor));
}

/** The map's value at a point of its region, both coordinates from 0 to 1. */
export function valueAt(grid, u, v) {
  const column = neighbors(u * grid[0].length - 0.5, grid[0].length);
  const row = neighbors(v * grid.length - 0.5, grid.length);
  const mix = (values) => values[column.first] * (1 - column.share) + values[column.second] * column.share;
  return mix(grid[row.first]) * (1 - row.share) + mix(grid[row.second]) * row.share;
}

/** The share of levels that reach a threshold from 0 to 1. */
export function share(map, threshold) {
  const lowest = level(threshold);
  let reached = 0;
  for (const value of map) reached += value >= lowest ? 1 : 0;
  return reached / map.length;
}

/** The lowest level that reaches a value from 0 to 1. */
export function level(value) {
  return Math.ceil(value * (LEVELS - 1));
}

/** For each pixel of a side: the two cells that it lies between, and the share of the second one. */
function taps(cells, pixels) {
  const first = new Int32Array(pixels);
  const second = new Int32Array(pixels);
  const shares = new Float32Array(pixels);
  for (let pixel = 0; pixel < pixels; pixel += 1) {
    const between = neighbors(Math.fround(((pixel + 0.5) * cells) / pixels - 0.5), cells);
    first[pixel] = between.first;
    second[pixel] = between.second;
    shares[pixel] = between.share;
  }
  return { first, second, share: shares };
}

/** The two cells whose centers enclose a coordinate; beyond the outermost centers the value is constant. */
function neighbors(coordinate, cells) {
  const first = Math.floor(coordinate);
  if (first < 0) return { first: 0, second: 0, share: 0 };
  if (first >= cells - 1) return { first: cells - 1, second: cells - 1, share: 0 };
  return { first, second: first + 1, share: coordinate - first };
}

function stretched(row, across) {
  const result = new Float32Array(across.first.length);
  for (let x = 0; x < result.length; x += 1) {
    const part = across.share[x];
    result[x] = row[across.first[x]] * (1 - part) + row[across.second[x]] * part;
  }
  return result;
}
