"use strict";
// Gates and states over time as heat maps: units down, time to the right, in the colors and on the limits of fastlstm.plot.trace.

/**
 * @typedef {{letter: string, words: string, colors: string, limits: [number, number] | null}} Row
 * What is looked at in a call's arrays; length: of the row.
 * @typedef {{T: number, N: number, batchFirst: boolean, row: number, step: number, unit: number, length: number}} Place
 */

const heat = (() => {
  /** Number k of the step of the row shown. @param {Float64Array} steps @param {number} width @param {Place} place */
  function numberOf(steps, width, place, /** @type {number} */ t, /** @type {number} */ unit) {
    return steps[(place.batchFirst ? place.row * place.T + t : t * place.N + place.row) * width + unit];
  }

  const widthOf = (/** @type {Float64Array} */ steps, /** @type {Place} */ place) => steps.length / (place.T * place.N);

  /** Its own, or symmetric about 0 up to the largest magnitude. @param {Row} row @param {Float64Array} steps @returns {[number, number]} */
  function limitsOf(row, steps) {
    if (row.limits) return row.limits;
    const largest = steps.reduce((most, value) => (Number.isFinite(value) ? Math.max(most, Math.abs(value)) : most), 0);
    return [-(largest || 1), largest || 1];
  }

  /** @param {string} cell @param {Steps} steps @param {Place} place @param {(step: number, unit: number) => void} choose */
  function draw(cell, steps, place, choose) {
    const parts = TABLES.cells[cell].rows.map((row) => picture(row, steps[row.letter], place, choose));
    byId("heat").replaceChildren(...parts.flat());
  }

  /** @param {Row} row @param {Float64Array} values @param {Place} place @param {(step: number, unit: number) => void} choose */
  function picture(row, values, place, choose) {
    const units = widthOf(values, place);
    const [low, high] = limitsOf(row, values);
    const words = translated(row.words.replace(/ \w$/, ""));
    const name = element("div", { class: "row-name" }, element("b", {}, row.letter), element("span", {}, words));
    const canvas = element("canvas", { width: place.T, height: units });
    const image = new ImageData(place.T, units);
    for (let t = 0; t < Math.min(place.T, place.length); ++t)
      for (let unit = 0; unit < units; ++unit)
        image.data.set([...colorOf(row.colors, numberOf(values, units, place, t, unit), low, high), 255], 4 * (unit * place.T + t));
    canvas.getContext("2d").putImageData(image, 0, 0);
    const now = element("div", { class: "now" });
    const label = say("heat_label", { words: `${words} ${row.letter}`, units, steps: place.length });
    const map = element("div", { class: "map", role: "img", "aria-label": label }, canvas, now);
    mark(now, place, units);
    map.addEventListener("pointerdown", (/** @type {PointerEvent} */ event) => {
      const box = map.getBoundingClientRect();
      const part = (/** @type {number} */ at, /** @type {number} */ all, /** @type {number} */ count) =>
        Math.max(0, Math.min(count - 1, Math.floor((at / all) * count)));
      choose(part(event.clientX - box.left, box.width, place.T), part(event.clientY - box.top, box.height, units));
    });
    const scale = element("div", { class: "scale", "aria-hidden": "true" }, element("span", {}, limit(high)), bar(row.colors), element("span", {}, limit(low)));
    return [name, map, scale];
  }

  const limit = (/** @type {number} */ value) => (Number.isInteger(value) ? String(value).replace("-", "−") : shown(value).replace(/(\.\d\d)\d$/, "$1"));

  function bar(/** @type {string} */ colors) {
    const stops = [...TABLES.colors[colors]].reverse();
    return element("i", { style: `background: linear-gradient(${stops.join(", ")})` });
  }

  /** The frame around the step and unit chosen. */
  function mark(/** @type {HTMLElement} */ now, /** @type {Place} */ place, /** @type {number} */ units) {
    const at = Math.min(place.unit, units - 1);
    const percent = (/** @type {number} */ part, /** @type {number} */ all) => `${(100 * part) / all}%`;
    Object.assign(now.style, { left: percent(place.step, place.T), width: percent(1, place.T) });
    now.replaceChildren(element("i", { style: `top: ${percent(at, units)}; height: ${percent(1, units)}` }));
  }

  return { draw, numberOf, widthOf, limitsOf };
})();
