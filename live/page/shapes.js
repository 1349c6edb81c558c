"use strict";
// The shapes of a layer in letters and in numbers, and what its constructor says to a wrong setting: from tables that
// live/tables.py reads off the package.

/**
 * @typedef {{letters: string, numbers: string}} Shape
 * @typedef {{name: string, meaning: string, shape: Shape}} Tensor
 * @typedef {{name: string, shape: Shape, count: bigint}} Parameter
 * @typedef {{sizes: {letter: string, size: bigint, meaning: string}[], tensors: Tensor[], parameters: Parameter[], total: bigint}} Described
 * @typedef {{[name: string]: any}} Settings
 */

const shapes = (() => {
  const brackets = (/** @type {string[]} */ parts) => `(${parts.join(", ")}${parts.length === 1 ? "," : ""})`;

  /** The numbers that dimensions stand for: each is a letter, a number or a product of them. */
  function numbersOf(/** @type {{[letter: string]: bigint}} */ sizes, /** @type {string[]} */ dimensions) {
    return dimensions.map((dimension) =>
      dimension.split("*").reduce((product, factor) => product * (sizes[factor] ?? BigInt(factor)), 1n));
  }

  /** Of settings that the constructor takes. @param {Settings} given @returns {Described} */
  function describe(given) {
    const proj = given.proj_size > 0 ? " proj" : "";
    const letters = TABLES.sizes[`${given.cell} ${given.unbatched ? "unbatched" : "batched"}${proj}`].map((entry) => ({
      letter: entry.letter,
      size: entry.letter === "D" && given.bidirectional ? 2n : BigInt(typeof entry.of === "string" ? given[entry.of] : entry.of),
      meaning: entry.meaning,
    }));
    const sizes = Object.fromEntries(letters.map(({ letter, size }) => [letter, size]));
    const shape = (/** @type {string[]} */ dimensions) =>
      ({ letters: brackets(dimensions), numbers: brackets(numbersOf(sizes, dimensions).map(String)) });
    const layout = given.unbatched ? "unbatched" : given.batch_first ? "batch" : "time";
    const tensors = TABLES.tensors[`${given.cell} ${layout}`].map((t) => ({ name: t.name, meaning: t.meaning, shape: shape(t.shape) }));
    const patterns = TABLES.parameters[`${given.cell}${given.bias ? " bias" : ""}${proj}`];
    /** @type {Parameter[]} */
    const parameters = [];
    for (let layer = 0; layer < given.num_layers; ++layer)
      for (const suffix of given.bidirectional ? ["", "_reverse"] : [""])
        for (const pattern of patterns) {
          const dimensions = layer === 0 ? pattern.first : pattern.above;
          const count = numbersOf(sizes, dimensions).reduce((a, b) => a * b, 1n);
          parameters.push({ name: `${pattern.name}_l${layer}${suffix}`, shape: shape(dimensions), count });
        }
    return { sizes: letters, tensors, parameters, total: parameters.reduce((sum, p) => sum + p.count, 0n) };
  }

  /**
   * What Python would take a typed text for.
   * @param {string} text @returns {{type: "int" | "float", value: number} | {type: "str", value: string}}
   */
  function literal(text) {
    const trimmed = text.trim();
    if (/^[+-]?\d+$/.test(trimmed)) return { type: "int", value: Number(trimmed) };
    if (/^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(trimmed)) return { type: "float", value: Number(trimmed) };
    return { type: "str", value: text };
  }

  const RELATIONS = {
    "<": (/** @type {number} */ a, /** @type {number} */ b) => a < b,
    "<=": (/** @type {number} */ a, /** @type {number} */ b) => a <= b,
    ">": (/** @type {number} */ a, /** @type {number} */ b) => a > b,
    ">=": (/** @type {number} */ a, /** @type {number} */ b) => a >= b,
    "==": (/** @type {number} */ a, /** @type {number} */ b) => a === b,
  };

  /**
   * What the constructor says first, or null. `given` are texts as typed, by argument.
   * @param {string} cell @param {{[name: string]: string}} given
   * @returns {{kind: string, message: string, argument: string} | null}
   */
  function complaint(cell, given) {
    const read = Object.fromEntries(Object.entries(given).map(([name, text]) => [name, literal(text)]));
    const holds = (/** @type {[string, string, any]} */ [name, relation, bound]) => {
      const { type, value } = read[name];
      if (relation === "is") return type === bound;
      const other = typeof bound === "string" ? read[bound] : { type: "int", value: bound };
      if (relation === "!=") return value !== other.value;
      return type !== "str" && other.type !== "str" && RELATIONS[relation](value, other.value);
    };
    const found = TABLES.rules[cell].find((rule) => rule.when.every(holds));
    if (!found) return null;
    const message = found.message.replace(/\{(\w+)\}/g, (_, name) => {
      const { type, value } = read[name];
      return type === "float" && Number.isInteger(value) ? `${value}.0` : String(value);
    });
    return { kind: found.kind, message, argument: found.when[0][0] };
  }

  return { describe, complaint, literal };
})();
