// Where a map reaches a share of its maximum: as boxes around connected regions, and as an outline of all of them.

import { enlarged } from "./heatmap.js";

// Pixels of the longer side of the enlarged map in which the server and this page look for boxes.
const MAX_SIDE = 512;
const MAX_BOXES = 100;
// The outline is as many times thinner than the image.
const OUTLINES_PER_SIDE = 250;

/**
 * A connected region of a map.
 *
 * @typedef {object} Box
 * @property {number[]} box [left, top, right, bottom] in pixels of the image; right and bottom are exclusive
 * @property {number} area pixels of the region
 */

/**
 * The connected regions of a map that reach a share of its maximum, the largest first; the same as the server's.
 *
 * @param {number[][]} grid
 * @param {number[]} region [left, top, right, bottom] of the image that the map covers
 * @param {number} share above 0, at most 1
 * @returns {Box[]}
 */
export function boxes(grid, [left, top, right, bottom], share) {
  const [fullWidth, fullHeight] = [right - left, bottom - top];
  const scale = Math.min(1, MAX_SIDE / Math.max(fullWidth, fullHeight));
  const width = Math.max(1, Math.round(fullWidth * scale));
  const height = Math.max(1, Math.round(fullHeight * scale));
  const mask = reached(enlarged(grid, width, height), share);
  const [across, down] = [fullWidth / width, fullHeight / height];
  const found = components(mask, width, height).sort((a, b) => b.area - a.area);
  return found.slice(0, MAX_BOXES).map((component) => ({
    box: [
      left + Math.floor(component.left * across),
      top + Math.floor(component.top * down),
      left + Math.ceil((component.right + 1) * across),
      top + Math.ceil((component.bottom + 1) * down),
    ],
    area: Math.max(1, Math.round(component.area * across * down)),
  }));
}

/** The pixels at the edge of the regions that reach a share of a map's maximum, as [x, y, x, y …]. */
export function outline(grid, width, height, share) {
  const mask = reached(enlarged(grid, width, height), share);
  const points = [];
  for (let y = 0, at = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1, at += 1) {
      if (!mask[at]) continue;
      const edge = x === 0 || y === 0 || x === width - 1 || y === height - 1;
      if (edge || !mask[at - 1] || !mask[at + 1] || !mask[at - width] || !mask[at + width]) points.push(x, y);
    }
  }
  return points;
}

/**
 * Draw an outline into the rows of an image: a white line with a black edge.
 *
 * @param {Uint8ClampedArray} pixels RGBA of the rows
 * @param {number} width of the rows
 * @param {number[]} points of the outline
 * @param {number[]} origin [x, y] of the first pixel, in the coordinates of the points
 * @param {number} longest side of the image; it determines the line's thickness
 */
export function drawOutline(pixels, width, points, origin, longest) {
  const thickness = Math.max(1, Math.round(longest / OUTLINES_PER_SIDE));
  drawDots(pixels, width, points, origin, 3 * thickness, 0);
  drawDots(pixels, width, points, origin, thickness, 255);
}

function drawDots(pixels, width, points, [left, top], diameter, gray) {
  const rows = pixels.length / 4 / width;
  const radius = diameter / 2;
  const reach = Math.floor(radius);
  const halves = Array.from({ length: 2 * reach + 1 }, (_, row) => Math.floor(Math.sqrt(radius ** 2 - (row - reach) ** 2)));
  for (let at = 0; at < points.length; at += 2) {
    const [x, y] = [points[at] - left, points[at + 1] - top];
    if (y + reach < 0 || y - reach >= rows) continue;
    for (let row = Math.max(0, y - reach); row <= Math.min(rows - 1, y + reach); row += 1) {
      const half = halves[row - y + reach];
      const from = 4 * (row * width + Math.max(0, x - half));
      const to = 4 * (row * width + Math.min(width - 1, x + half));
      for (let pixel = from; pixel <= to; pixel += 4) pixels[pixel] = pixels[pixel + 1] = pixels[pixel + 2] = gray;
    }
  }
}

/** Which values reach a share of the maximum: none of a map that is all 0. */
function reached(values, share) {
  let maximum = 0;
  for (const value of values) maximum = Math.max(maximum, value);
  const lowest = Math.fround(share * maximum);
  return Uint8Array.from(values, (value) => Number(maximum > 0 && value >= lowest));
}

/** The connected components of a mask; pixels that touch at a corner are connected. The mask is consumed. */
function components(mask, width, height) {
  const found = [];
  for (let start = 0; start < mask.length; start += 1) {
    if (!mask[start]) continue;
    const component = { left: width, top: height, right: 0, bottom: 0, area: 0 };
    const waiting = [start];
    mask[start] = 0;
    while (waiting.length) {
      const at = waiting.pop();
      const [x, y] = [at % width, Math.floor(at / width)];
      component.left = Math.min(component.left, x);
      component.right = Math.max(component.right, x);
      component.top = Math.min(component.top, y);
      component.bottom = Math.max(component.bottom, y);
      component.area += 1;
      for (let row = Math.max(0, y - 1); row <= Math.min(height - 1, y + 1); row += 1) {
        for (let column = Math.max(0, x - 1); column <= Math.min(width - 1, x + 1); column += 1) {
          const neighbor = row * width + column;
          if (!mask[neighbor]) continue;
          mask[neighbor] = 0;
          waiting.push(neighbor);
        }
      }
    }
    found.push(component);
  }
  return found;
}
