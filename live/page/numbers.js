"use strict";
// The tables: shapes in letters and in numbers, and the numbers beside the pictures.

/** @param {Described} layer */
function showShapes(layer) {
  const code = (/** @type {string} */ text) => element("code", {}, text);
  byId("letters").replaceChildren(...layer.sizes.map(({ letter, size, meaning }) =>
    element("div", {}, element("dt", {}, code(letter), ` = ${size}`), element("dd", {}, translated(meaning)))));
  byId("tensors").replaceChildren(table(say("call"), [say("tensor"), say("letters"), say("in_numbers"), say("meaning")],
    layer.tensors.map(({ name, meaning, shape }) => [code(name), code(shape.letters), code(shape.numbers), translated(meaning)])));
  byId("parameters").replaceChildren(table(say("weights"), [say("parameter"), say("letters"), say("in_numbers"), say("count")],
    layer.parameters.map(({ name, shape, count }) => [code(name), code(shape.letters), code(shape.numbers), count.toLocaleString("en")]),
    [say("total"), "", "", layer.total.toLocaleString("en")]));
}

/** @param {Place} place @param {Steps} steps */
function showNumbers(place, steps) {
  const { given, result } = shownCall;
  const rows = TABLES.cells[given.cell].rows;
  const named = { step: view.step + 1, layer: view.layer, row: view.row };
  const cellOf = (/** @type {string} */ letter, /** @type {number} */ unit) => {
    const width = heat.widthOf(steps[letter], place);
    return unit < width ? shown(heat.numberOf(steps[letter], width, place, view.step, unit)) : "";
  };
  byId("units").replaceChildren(table(say("every_unit", named), [say("unit"), ...rows.map(({ letter }) => letter)],
    Array.from({ length: given.hidden_size }, (_, unit) => [String(unit), ...rows.map(({ letter }) => cellOf(letter, unit))])));

  const list = (/** @type {Float64Array} */ all, /** @type {number} */ at, /** @type {number} */ width) => [...all.subarray(at * width, (at + 1) * width)].map(shown).join("  ");
  const D = result.layers[0].length;
  const chains = given.num_layers * D;
  const of = (/** @type {string} */ name, /** @type {Float64Array} */ all) => Array.from({ length: chains }, (_, n) => {
    const chain = `${name}[${n}]`;
    return [element("code", {}, chain), list(all, n * place.N + place.row, all.length / chains / place.N)];
  });
  const here = place.batchFirst ? place.row * place.T + view.step : view.step * place.N + place.row;
  byId("last").replaceChildren(table(say("last_states", named), [say("state"), say("values")], [
    ...of("h_n", result.h_n),
    ...(result.c_n ? of("c_n", result.c_n) : []),
    [say("output_here", named), list(result.output, here, result.output.length / place.T / place.N)],
  ]));
}
