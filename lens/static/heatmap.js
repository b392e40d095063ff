// Arithmetic on a map: rows of numbers from 0 to 1, on a grid much coarser than the picture.

const LEVELS = 256;

/**
 * Resizes a map bilinearly and cuts it into levels, as OpenCV and the server do.
 *
 * @param {number[][]} grid
 * @param {number} width of the result
 * @param {number} height of the result
 * @param {number} from first row of the result that is computed
 * @param {number} to row of the result in front of which to stop
 * @returns {Uint8Array} levels from 0 to 255, (to - from) × width
 */
export function levels(grid, width, height, from = 0, to = height) {
  const across = taps(grid[0].length, width);
  const down = taps(grid.length, height);
  const wide = grid.map((row) => stretched(row, across));
  const result = new Uint8Array((to - from) * width);
  for (let y = from, at = 0; y < to; y += 1) {
    const upper = wide[down.first[y]];
    const lower = wide[down.second[y]];
    const share = down.share[y];
    for (let x = 0; x < width; x += 1, at += 1) {
      const value = Math.fround(upper[x] * (1 - share) + lower[x] * share);
      result[at] = Math.fround((LEVELS - 1) * value);
    }
  }
  return result;
}

/** The map's value at a place of its region, both coordinates from 0 to 1. */
export function valueAt(grid, u, v) {
  const column = place(u * grid[0].length - 0.5, grid[0].length);
  const row = place(v * grid.length - 0.5, grid.length);
  const mix = (values) => values[column.first] * (1 - column.share) + values[column.second] * column.share;
  return mix(grid[row.first]) * (1 - row.share) + mix(grid[row.second]) * row.share;
}

/** The share of levels that reach a threshold from 0 to 1. */
export function share(map, threshold) {
  const least = level(threshold);
  let reached = 0;
  for (const value of map) reached += value >= least ? 1 : 0;
  return reached / map.length;
}

/** The lowest level that reaches a value from 0 to 1. */
export function level(value) {
  return Math.ceil(value * (LEVELS - 1));
}

/** For each pixel of a side: the two cells it lies between, and the second one's share. */
function taps(cells, pixels) {
  const first = new Int32Array(pixels);
  const second = new Int32Array(pixels);
  const shares = new Float32Array(pixels);
  for (let pixel = 0; pixel < pixels; pixel += 1) {
    const at = place(Math.fround(((pixel + 0.5) * cells) / pixels - 0.5), cells);
    first[pixel] = at.first;
    second[pixel] = at.second;
    shares[pixel] = at.share;
  }
  return { first, second, share: shares };
}

/** Where a coordinate lies between the middles of cells; beyond the outer ones nothing changes any more. */
function place(coordinate, cells) {
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
