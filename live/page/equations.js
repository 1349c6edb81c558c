"use strict";
// The equations of a cell in the project's letters, each with the engine's numbers of one step and one unit.

const equations = (() => {
  /**
   * One equation: its letter, what it says in letters, in numbers, and what comes out.
   * @typedef {{letter: string, words: string, letters: string, numbers: string, value: number | string}} Equation
   * @typedef {{[letter: string]: number}} Values
   */

  const signed = (/** @type {number[]} */ ...values) =>
    values.map(shown).reduce((sum, text) => (text.startsWith("−") ? `${sum} − ${text.slice(1)}` : `${sum} + ${text}`));
  const factor = (/** @type {number} */ value) => (value < 0 ? `(${shown(value)})` : shown(value));

  /** A gate of one sum: sigmoid or tanh of W x + R h + b. @param {string} letter @param {Values} values */
  function gate(letter, values, /** @type {any} */ sums, /** @type {boolean} */ bias, /** @type {string} */ of) {
    const numbers = [sums.input, sums.hidden, ...(bias ? [sums.b] : [])];
    return {
      letter,
      letters: `${letter}_t = ${of}(W_${letter} x_t + R_${letter} h_{t−1}${bias ? ` + b_${letter}` : ""})`,
      numbers: `${of}(${signed(numbers[0], ...numbers.slice(1))})`,
      value: values[letter],
    };
  }

  /** @param {Values} v @param {Explanation} of @param {Settings} given @param {number[]} h all that the step says */
  function lstm(v, of, given, h) {
    const gates = ["i", "f", "g", "o"].map((letter, k) => gate(letter, v, of.gates[k], given.bias, letter === "g" ? "tanh" : "σ"));
    const projected = given.proj_size > 0;
    const most = h.slice(0, 4).map(shown).join(", ") + (h.length > 4 ? ", …" : "");
    return [
      ...gates,
      {
        letter: "c",
        letters: "c_t = f_t c_{t−1} + i_t g_t",
        numbers: `${shown(v.f)} · ${factor(of.c ?? 0)} + ${shown(v.i)} · ${factor(v.g)}`,
        value: v.c,
      },
      {
        letter: "h",
        letters: projected ? "h_t = W_hr (o_t tanh(c_t))" : "h_t = o_t tanh(c_t)",
        numbers: `${projected ? "W_hr (… " : ""}${shown(v.o)} · tanh(${shown(v.c)})${projected ? " …)" : ""}`,
        value: projected ? `(${most})` : v.h,
      },
    ];
  }

  /** @param {Values} v @param {Explanation} of @param {Settings} given @param {number} unit */
  function gru(v, of, given, unit) {
    const [r, z] = ["r", "z"].map((letter, k) => gate(letter, v, of.gates[k], given.bias, "σ"));
    const n = of.gates[2];
    const inner = given.bias ? `(${signed(n.hidden, n.b_hh)})` : factor(n.hidden);
    const outer = given.bias ? signed(n.input, n.b_ih) : shown(n.input);
    return [
      r,
      z,
      {
        letter: "n",
        letters: given.bias ? "n_t = tanh(W_n x_t + b_in + r_t (R_n h_{t−1} + b_hn))" : "n_t = tanh(W_n x_t + r_t R_n h_{t−1})",
        numbers: `tanh(${outer} + ${shown(v.r)} · ${inner})`,
        value: v.n,
      },
      {
        letter: "h",
        letters: "h_t = (1 − z_t) n_t + z_t h_{t−1}",
        numbers: `(1 − ${shown(v.z)}) · ${factor(v.n)} + ${shown(v.z)} · ${factor(of.h[unit])}`,
        value: v.h,
      },
    ];
  }

  /** @param {any} equation @param {string} cell @param {[number, number]} limits */
  function card(equation, cell, limits) {
    const row = TABLES.cells[cell].rows.find(({ letter }) => letter === equation.letter);
    const known = typeof equation.value === "number";
    const color = known ? `rgb(${colorOf(row.colors, equation.value, ...limits).join(" ")})` : "transparent";
    return element("li", {},
      element("div", { class: "head" },
        element("i", { class: "chip", style: `background: ${color}`, "aria-hidden": "true" }),
        element("b", {}, equation.letter),
        element("span", {}, say(`sense_${equation.letter}`)),
        element("output", {}, known ? shown(equation.value) : "")),
      element("p", { class: "letters" }, ...letters(equation.letters)),
      element("p", { class: "figures" }, `= ${equation.numbers} = `, element("b", {}, known ? shown(equation.value) : equation.value)));
  }

  /**
   * @param {Settings} given @param {Values} values @param {Explanation} of @param {number[]} h @param {number} unit
   * @param {{[letter: string]: [number, number]}} limits
   */
  function draw(given, values, of, h, unit, limits) {
    const all = given.cell === "LSTM" ? lstm(values, of, given, h) : gru(values, of, given, unit);
    byId("equations").replaceChildren(...all.map((equation) => card(equation, given.cell, limits[equation.letter])));
  }

  return { draw };
})();
