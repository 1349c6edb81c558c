"use strict";
// The engine in WebAssembly: calls of live/engine.cpp as functions of arrays. No arithmetic of a layer is done outside of it.

const DTYPES = ["float32", "float64", "bfloat16", "float16"]; // by their number there

/**
 * What a layer did at every step: per letter (h, c, i, f, g, o or h, r, z, n) and the features each step has of it.
 * @typedef {{[letter: string]: Float64Array}} Steps
 * @typedef {{output: Float64Array, h_n: Float64Array, c_n: Float64Array | null, layers: Steps[][]}} Result
 * @typedef {{T: number, N: number, batchFirst: boolean, x: Float64Array, lengths: number[], resets: Uint8Array}} Call
 * @typedef {{cell: string, I: number, H: number, P: number, layers: number, D: number, bias: boolean, dtype: string}} Sizes
 * @typedef {{gates: {input: number, hidden: number, b_ih: number, b_hh: number, b: number}[], c: number | null, h: number[]}} Explanation
 */

/** The text is the engine's own. */
class EngineError extends Error {}

const engine = (() => {
  /** @type {any} */
  let wasm;

  /** What the module asks of its host: no environment, no time, no way out. */
  async function start() {
    const bytes = Uint8Array.from(atob(WASM), (letter) => letter.charCodeAt(0));
    const none = (/** @type {number[]} */ ...at) => {
      for (const place of at) new DataView(wasm.memory.buffer).setUint32(place, 0, true);
      return 0;
    };
    const end = () => {
      throw new EngineError("the engine has ended");
    };
    const system = { clock_time_get: () => 0, environ_get: none, environ_sizes_get: none, proc_exit: end };
    const host = { wasi_snapshot_preview1: system, env: { emscripten_notify_memory_growth: () => undefined } };
    wasm = (await WebAssembly.instantiate(bytes, host)).instance.exports;
    wasm._initialize();
  }

  /** @param {number} at */
  function text(at) {
    const bytes = new Uint8Array(wasm.memory.buffer);
    return new TextDecoder().decode(bytes.slice(at, bytes.indexOf(0, at)));
  }

  /** @param {() => unknown} call */
  function checked(call) {
    let done;
    try {
      done = call();
    } catch (error) {
      throw error instanceof EngineError ? error : new EngineError(String(error));
    }
    if (!done) throw new EngineError(text(wasm.said()));
  }

  /**
   * `use` gets where the arrays stand; they are gone after it.
   * @param {ArrayBufferView[]} arrays
   * @param {(...at: number[]) => void} use
   */
  function withArrays(arrays, use) {
    const places = arrays.map((array) => wasm.take(Math.max(1, array.byteLength)));
    try {
      if (places.includes(0)) throw new EngineError("out of memory");
      arrays.forEach((array, k) => {
        new Uint8Array(wasm.memory.buffer).set(new Uint8Array(array.buffer, array.byteOffset, array.byteLength), places[k]);
      });
      use(...places);
    } finally {
      places.forEach((at) => wasm.give(at));
    }
  }

  /** @param {number} at @param {number} count */
  const doubles = (at, count) => new Float64Array(wasm.memory.buffer, at, count).slice();

  /** @param {Sizes} of @param {number} seed */
  function create(of, seed) {
    const cell = of.cell === "GRU" ? 1 : 0;
    checked(() => wasm.create(cell, of.I, of.H, of.P, of.layers, of.D, of.bias, DTYPES.indexOf(of.dtype), seed));
  }

  /** @param {Uint8Array} file @param {string} prefix */
  function load(file, prefix) {
    const name = new TextEncoder().encode(`${prefix}\0`);
    withArrays([file, name], (at, of) => checked(() => wasm.load(at, file.length, of)));
  }

  /** @returns {Sizes} */
  function sizes() {
    const [cell, I, H, P, layers, D, bias, dtype] = [0, 1, 2, 3, 4, 5, 6, 7].map((k) => wasm.setting(k));
    return { cell: cell ? "GRU" : "LSTM", I, H, P, layers, D, bias: bias !== 0, dtype: DTYPES[dtype] };
  }

  /** The bytes of parameter k. @param {number} k */
  function parameter(k) {
    const at = wasm.parameter(k);
    return new Uint8Array(wasm.memory.buffer, at, wasm.size_of_parameter()).slice();
  }

  /** @param {Call} call @returns {Result} */
  function run(call) {
    const { cell, P, H, layers, D } = sizes();
    withArrays([call.x, Int32Array.from(call.lengths), call.resets], (x, lengths, resets) =>
      checked(() => wasm.run(x, call.T, call.N, call.batchFirst, lengths, resets)));
    let next = 0;
    const take = () => doubles(wasm.result(next), wasm.size_of_result(next++));
    const output = take();
    const h_n = take();
    const c_n = cell === "LSTM" ? take() : null;
    /** @type {Steps[][]} */
    const traced = [];
    for (let layer = 0; layer < layers; ++layer) {
      traced.push([]);
      for (let d = 0; d < D; ++d) traced[layer].push(Object.fromEntries(TABLES.cells[cell].steps.map((letter) => [letter, take()])));
    }
    for (let layer = 0; layer < layers; ++layer) {
      const both = layer === layers - 1 ? output : take();
      traced[layer].forEach((steps, d) => { steps.h = side(both, P || H, d, D); });
    }
    return { output, h_n, c_n, layers: traced };
  }

  /** One direction's features of what has both. @param {Float64Array} both @param {number} width @param {number} d @param {number} D */
  function side(both, width, d, D) {
    const own = new Float64Array(both.length / D);
    for (let k = 0; k * width < own.length; ++k) own.set(both.subarray((k * D + d) * width, (k * D + d + 1) * width), k * width);
    return own;
  }

  /**
   * What the gates of a unit add up at a step that the row has, and the state before it.
   * @param {number} chain @param {number} row @param {number} step @param {number} unit @returns {Explanation}
   */
  function explain(chain, row, step, unit) {
    const { cell } = sizes();
    const { gates, states } = TABLES.cells[cell];
    const sums = [...doubles(wasm.explain(chain, row, step, unit), wasm.size_of_explanation())];
    const of = gates.map((_, k) => {
      const [input, hidden, b_ih, b_hh, b] = sums.slice(5 * k, 5 * k + 5);
      return { input, hidden, b_ih, b_hh, b };
    });
    const rest = sums.slice(5 * gates.length);
    return { gates: of, c: states.length > 1 ? rest[0] : null, h: rest.slice(states.length - 1) };
  }

  const instructions = () => text(wasm.instructions());

  return { start, create, load, sizes, parameter, run, explain, instructions };
})();
