"use strict";
// The sequences of a call: N rows of T steps of I numbers, with lengths and resets, and the drawing of one feature of one row.

const HIGHEST = 3; // what the drawing reaches without larger numbers

const sequence = (() => {
  /** x[row][feature][step]; resets[row][step] */
  /** @type {number[][][]} */
  let x = [];
  /** @type {boolean[][]} */
  let resets = [];
  /** @type {number[]} */
  let lengths = [];

  /** What is there before anybody draws: waves, every row and feature another one. */
  const wave = (/** @type {number} */ n, /** @type {number} */ i, /** @type {number} */ t) =>
    Math.round(200 * Math.sin((0.55 + 0.2 * i) * t + 1.3 * i + 2.1 * n)) / 100;

  /** Keeps what is drawn as far as it fits. @param {number} T @param {number} N @param {number} I */
  function fit(T, N, I) {
    const before = x[0]?.[0]?.length ?? T;
    const numbers = (/** @type {number} */ count, /** @type {(k: number) => any} */ of) => Array.from({ length: count }, (_, k) => of(k));
    x = numbers(N, (n) => numbers(I, (i) => numbers(T, (t) => x[n]?.[i]?.[t] ?? wave(n, i, t))));
    resets = numbers(N, (n) => numbers(T, (t) => resets[n]?.[t] ?? false));
    lengths = numbers(N, (n) => (lengths[n] === undefined || lengths[n] === before ? T : Math.min(T, lengths[n])));
  }

  /** As the engine takes it. @param {boolean} batchFirst @param {boolean} plain without resets, at full length @returns {Call} */
  function call(batchFirst, plain) {
    const [N, I, T] = [x.length, x[0].length, x[0][0].length];
    const flat = new Float64Array(T * N * I);
    const anew = new Uint8Array(T * N);
    for (let n = 0; n < N; ++n)
      for (let t = 0; t < T; ++t) {
        const at = batchFirst ? n * T + t : t * N + n;
        for (let i = 0; i < I; ++i) flat[at * I + i] = x[n][i][t];
        anew[at] = !plain && resets[n][t] ? 1 : 0;
      }
    return { T, N, batchFirst, x: flat, lengths: plain ? lengths.map(() => T) : [...lengths], resets: anew };
  }

  const isPlain = () => lengths.every((length) => length === x[0][0].length) && !resets.some((row) => row.includes(true));

  return {
    fit, call, isPlain,
    get: (/** @type {number} */ n, /** @type {number} */ i) => x[n][i],
    put: (/** @type {number} */ n, /** @type {number} */ i, /** @type {number} */ t, /** @type {number} */ value) => { x[n][i][t] = value; },
    length: (/** @type {number} */ n) => lengths[n],
    end: (/** @type {number} */ n, /** @type {number} */ length) => { lengths[n] = Math.max(0, Math.min(x[0][0].length, length)); },
    reset: (/** @type {number} */ n, /** @type {number} */ t) => resets[n][t],
    toggle: (/** @type {number} */ n, /** @type {number} */ t) => { resets[n][t] = !resets[n][t]; },
    clear: () => {
      lengths = lengths.map(() => x[0][0].length);
      resets = resets.map((row) => row.map(() => false));
    },
  };
})();

const plot = (() => {
  const HEIGHT = 100; // of the drawing's own units; a step is one wide

  const reach = (/** @type {number[]} */ values) => Math.max(HIGHEST, ...values.filter(Number.isFinite).map(Math.abs));

  /** @param {number[]} values @param {number} row @param {number} step */
  function draw(values, row, step) {
    const T = values.length;
    const high = reach(values);
    const y = (/** @type {number} */ value) => HEIGHT / 2 - (value / high) * (HEIGHT / 2 - 4);
    const svg = byId("plot");
    svg.setAttribute("viewBox", `0 0 ${T} ${HEIGHT}`);
    const parts = [drawn("rect", { class: "now", x: step, y: 0, width: 1, height: HEIGHT })];
    if (sequence.length(row) < T) parts.push(drawn("rect", { class: "past", x: sequence.length(row), y: 0, width: T - sequence.length(row), height: HEIGHT }));
    values.forEach((value, t) => {
      const past = t >= sequence.length(row) ? " gone" : "";
      parts.push(drawn("rect", { class: `bar${past}`, x: t + 0.12, width: 0.76, y: Math.min(y(0), y(value)), height: Math.abs(y(value) - y(0)) }));
      parts.push(drawn("line", { class: `level${past}`, x1: t + 0.12, x2: t + 0.88, y1: y(value), y2: y(value) }));
      if (sequence.reset(row, t)) parts.push(drawn("line", { class: "reset", x1: t, x2: t, y1: 0, y2: HEIGHT }));
    });
    parts.push(drawn("line", { class: "zero", x1: 0, x2: T, y1: y(0), y2: y(0) }));
    svg.replaceChildren(...parts);
    byId("plot-high").textContent = shown(high).replace(/\.?0+$/, "");
    byId("plot-low").textContent = `−${shown(high).replace(/\.?0+$/, "")}`;
    svg.setAttribute("aria-valuemin", String(-high));
    svg.setAttribute("aria-valuemax", String(high));
    svg.setAttribute("aria-valuenow", String(values[step]));
    svg.setAttribute("aria-valuetext", say("plot_value", { step: step + 1, length: T, value: shown(values[step]) }));
  }

  /** Which step and value a pointer is at. @param {PointerEvent} event @param {number[]} values */
  function at(event, values) {
    const box = byId("plot").getBoundingClientRect();
    const share = (event.clientX - box.left) / box.width;
    const step = Math.max(0, Math.min(values.length - 1, Math.floor(share * values.length)));
    const up = (0.5 - (event.clientY - box.top) / box.height) / (0.5 - 4 / HEIGHT);
    const high = reach(values);
    return { step, value: Math.round(Math.max(-1, Math.min(1, up)) * high * 100) / 100 };
  }

  return { draw, at };
})();
