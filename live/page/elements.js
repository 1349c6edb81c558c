"use strict";
// Elements of the page, made and found.

/** @param {string} id @returns {any} */
const byId = (id) => document.getElementById(id);

/**
 * @param {string} name @param {{[attribute: string]: unknown}} [attributes] @param {...(Node | string)} children
 * @returns {any}
 */
function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) if (value !== undefined && value !== false) made.setAttribute(key, value === true ? "" : String(value));
  made.append(...children);
  return made;
}

/** @param {string} name @param {{[attribute: string]: unknown}} attributes @param {...(Node | string)} children */
function drawn(name, attributes, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, String(value));
  made.append(...children);
  return made;
}

/**
 * Rows of cells; the first of a row is its head. Numbers stand to the right.
 * @param {string} caption @param {string[]} heads @param {(string | Node)[][]} rows @param {(string | Node)[]} [foot]
 */
function table(caption, heads, rows, foot) {
  const line = (/** @type {(string | Node)[]} */ cells) =>
    element("tr", {}, ...cells.map((cell, k) => element(k === 0 ? "th" : "td", k === 0 ? { scope: "row" } : {}, cell)));
  return element("table", {},
    element("caption", {}, caption),
    element("thead", {}, element("tr", {}, ...heads.map((head) => element("th", { scope: "col" }, head)))),
    element("tbody", {}, ...rows.map(line)),
    ...(foot ? [element("tfoot", {}, line(foot))] : []));
}

/** A letter with its index: i_t, h_{t−1}, W_i. @param {string} text */
function letters(text) {
  const parts = text.split(/_(\{[^}]+\}|\w+)/);
  return parts.map((part, k) => (k % 2 === 1 ? element("sub", {}, part.replace(/[{}]/g, "")) : part));
}

/** On a map of `low` to `high`, as fastlstm.plot has them; NaN is magenta. */
function colorOf(/** @type {string} */ map, /** @type {number} */ value, /** @type {number} */ low, /** @type {number} */ high) {
  if (!Number.isFinite(value)) return [255, 0, 255];
  const stops = colorStops(map);
  const at = Math.min(1, Math.max(0, (value - low) / (high - low))) * (stops.length - 1);
  const k = Math.min(stops.length - 2, Math.floor(at));
  return stops[k].map((from, c) => Math.round(from + (at - k) * (stops[k + 1][c] - from)));
}

/** @type {{[map: string]: number[][]}} */
const known_stops = {};
function colorStops(/** @type {string} */ map) {
  return (known_stops[map] ??= TABLES.colors[map].map((hex) => [1, 3, 5].map((k) => parseInt(hex.slice(k, k + 2), 16))));
}
