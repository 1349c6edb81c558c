"use strict";
// The network unrolled, as fastlstm.plot.shapes draws it: layers upward, time to the right, every tensor with its shape; and in it
// the values of h and c as stripes.

const unrolled = (() => {
  const LETTER = 6.05, LINE = 15, PAD = 9, GAP = 46, RISE = 26, STRIPE = 9; // px of the drawing; letters are 10 px high

  /**
   * @typedef {{shape: (...dimensions: string[]) => string, place: (tensor: string, t: number) => string}} Names
   * @typedef {{name: string, lines: string[]}} Lane
   */

  const wide = (/** @type {string[]} */ lines) => LETTER * Math.max(...lines.map((line) => line.length));

  /** Of a box; one of states has room for a stripe below each. */
  const heightOf = (/** @type {number} */ lines) => lines * LINE + 2 * PAD + (lines > 2 ? (lines / 2 - 1) * STRIPE + 4 : 0);

  /** Lines are names and shapes in turn. @param {number} x its middle @param {number} y its top @param {string[]} lines */
  function box(x, y, width, lines, now = false, stripes = /** @type {number[][][]} */ ([])) {
    const height = heightOf(lines.length);
    const lineAt = (/** @type {number} */ k) => y + PAD + (k + 0.75) * LINE + (lines.length > 2 ? Math.floor(k / 2) * STRIPE : 0);
    const parts = [drawn("rect", { class: now ? "box chosen" : "box", x: x - width / 2, y, width, height, rx: 4 })];
    lines.forEach((line, k) => {
      parts.push(drawn("text", { class: k % 2 === 0 ? "name" : "", x, y: lineAt(k) }, line));
    });
    stripes.forEach((colors, k) => {
      const each = (width - 2 * PAD) / colors.length;
      const top = lineAt(2 * k + 1) + 5;
      colors.forEach((color, j) =>
        parts.push(drawn("rect", { x: x - width / 2 + PAD + j * each, y: top, width: each + 0.3, height: STRIPE - 4, fill: `rgb(${color.join(" ")})` })));
    });
    return parts;
  }

  /** Through the points, its head at the last. @param {[number, number][]} points @param {string} kind */
  const arrow = (points, kind) =>
    drawn("polyline", { class: `flow ${kind}`, points: points.map((point) => point.join(",")).join(" "), "marker-end": `url(#to-${kind})` });

  function heads() {
    return drawn("defs", {}, ...["data", "state"].map((kind) =>
      drawn("marker", { id: `to-${kind}`, viewBox: "0 0 8 8", refX: 8, refY: 4, markerWidth: 6, markerHeight: 6, orient: "auto" },
        drawn("path", { class: kind, d: "M0,0L8,4L0,8z" }))));
  }

  /** How tensors are called and shaped. @param {Settings} given @param {Described} layer @returns {Names} */
  function names(given, layer) {
    const sizes = Object.fromEntries(layer.sizes.map(({ letter, size }) => [letter, size]));
    const dimension = (/** @type {string} */ letter) => letter.split("*").reduce((product, one) => product * sizes[one], 1n);
    return {
      shape: (...features) => {
        const all = [...("N" in sizes ? ["N"] : []), ...features];
        const comma = all.length === 1 ? "," : "";
        return `(${all.join(", ")}${comma}) = (${all.map(dimension).join(", ")}${comma})`;
      },
      place: (tensor, t) => (given.batch_first && "N" in sizes ? `${tensor}[:, ${t}]` : `${tensor}[${t}]`),
    };
  }

  /**
   * @param {Settings} given @param {Described} layer @param {number} step the chosen one, from 0
   * @param {(layer: number, direction: number, t: number) => number[][][]} stripes colors of h and c at a step
   */
  function draw(given, layer, step, stripes) {
    const T = given.length;
    const D = given.bidirectional ? 2 : 1;
    const steps = [...new Set([0, step, T - 1])].sort((a, b) => a - b);
    const { shape, place } = names(given, layer);
    const states = given.cell === "LSTM" ? [["h", "H_out"], ["c", "H_cell"]] : [["h", "H_out"]];
    const lanes = Array.from({ length: given.num_layers * D }, (_, n) => {
      const own = layer.parameters.slice((n * layer.parameters.length) / (given.num_layers * D), ((n + 1) * layer.parameters.length) / (given.num_layers * D));
      const name = say("layer_name", { layer: Math.floor(n / D) }) + (D === 2 ? `, ${say(n % 2 ? "reverse" : "forward")}` : "");
      return [name, ...own.flatMap((p) => [p.name, `  ${p.shape.letters} = ${p.shape.numbers}`])];
    });
    const texts = [shape("H_in"), shape("D*H_out"), ...states.map(([, width]) => shape(width)), `x_${T} = ${place("input", T - 1)}`];
    const width = wide(texts) + 2 * PAD;
    const side = wide(lanes.flat()) + 3 * PAD;
    const apart = (/** @type {number} */ k) => (k > 0 && steps[k] - steps[k - 1] > 1 ? GAP + 22 : GAP);
    const x0 = side + width / 2;
    const at = new Map();
    let x = x0;
    steps.forEach((t, k) => at.set(t, (x += width + apart(k))));
    const end = x + width + GAP;
    const total = end + width / 2 + PAD;

    const small = heightOf(2);
    const large = heightOf(2 * states.length);
    const lane = Math.max(large + 2 * PAD, lanes[0].length * LINE + 2 * PAD);
    const one = D * lane + (D - 1) * PAD + 2 * RISE + small;
    const height = given.num_layers * one + small + 2;
    /** @type {Node[]} */
    const parts = [heads()];
    let source = height - small - 1; // the top of what the layer reads
    for (const t of steps) parts.push(...box(at.get(t), source, width, [`x_${t + 1} = ${place("input", t)}`, shape("H_in")], t === step));
    const dots = [source + small / 2];
    for (let k = 0; k < given.num_layers; ++k) {
      /** @type {number[]} */
      const rows = [];
      for (let d = 0; d < D; ++d) {
        const top = source - RISE - lane - d * (lane + PAD);
        parts.push(drawn("rect", { class: `lane lane${d}`, x: 0, y: top, width: total, height: lane, rx: 6 }));
        lanes[k * D + d].forEach((line, j) => {
          const y = top + (lane - lanes[0].length * LINE) / 2 + (j + 0.75) * LINE;
          parts.push(drawn("text", { class: j === 0 ? "name left" : "left", x: PAD, y }, line));
        });
        rows.push(top + (lane - large) / 2);
        dots.push(top + lane / 2);
        parts.push(...chain(k, d, rows[d]));
      }
      const target = source - one;
      for (const t of steps) {
        parts.push(...flow(at.get(t), source, rows, target + small));
        const name = k === given.num_layers - 1 ? place("output", t) : say("h_of_layer", { step: t + 1, layer: k });
        parts.push(...box(at.get(t), target, width, [name, shape("D*H_out")], t === step));
      }
      dots.push(target + small / 2);
      source = target;
    }
    steps.forEach((t, k) => {
      if (k > 0 && t - steps[k - 1] > 1)
        for (const y of dots) parts.push(drawn("text", { class: "dots", x: (at.get(t) + at.get(steps[k - 1])) / 2, y: y + 4 }, "…"));
    });

    /** One lane's boxes: where its states come from, each step, where they are left. */
    function chain(/** @type {number} */ k, /** @type {number} */ d, /** @type {number} */ y) {
      const n = k * D + d;
      const lines = (/** @type {string} */ which) => states.flatMap(([letter, features]) => [`${letter}_${which}`, shape(features)]);
      const made = [];
      const [from, to] = d === 0 ? [x0, end] : [end, x0];
      made.push(...box(from, y, width, lines(`0[${n}]`)), ...box(to, y, width, lines(`n[${n}]`)));
      for (const t of steps) made.push(...box(at.get(t), y, width, lines(String(t + 1)), t === step, stripes(k, d, t)));
      const sign = d === 0 ? 1 : -1;
      const order = d === 0 ? steps : [...steps].reverse();
      const xs = [from, ...order.map((t) => at.get(t)), to];
      xs.slice(1).forEach((next, j) => {
        const middle = y + large / 2;
        const [a, b] = [xs[j] + (sign * width) / 2, next - (sign * width) / 2];
        const skipped = j > 0 && j < order.length && Math.abs(order[j] - order[j - 1]) > 1;
        if (skipped) made.push(arrow([[a, middle], [(a + b) / 2 - sign * 9, middle]], "state"));
        made.push(arrow([[skipped ? (a + b) / 2 + sign * 9 : a, middle], [b, middle]], "state"));
      });
      return made;
    }

    /** A step's way up through a layer. With two directions the other's lane is passed beside the boxes. */
    function flow(/** @type {number} */ middle, /** @type {number} */ from, /** @type {number[]} */ rows, /** @type {number} */ to) {
      const made = [arrow([[middle, from], [middle, rows[0] + large]], "data"), arrow([[middle, rows[D - 1]], [middle, to]], "data")];
      if (D === 1) return made;
      const [left, right] = [middle - width / 2, middle + width / 2];
      const low = from + small / 2;
      const high = to - small / 2;
      made.push(arrow([[left, low], [left - 13, low], [left - 13, rows[1] + large - 14], [left, rows[1] + large - 14]], "data"));
      made.push(arrow([[right, rows[0] + 14], [right + 13, rows[0] + 14], [right + 13, high], [right, high]], "data"));
      return made;
    }

    const svg = byId("unrolled");
    svg.setAttribute("viewBox", `-1 0 ${total + 2} ${height}`);
    svg.setAttribute("width", total + 2);
    svg.setAttribute("height", height);
    svg.setAttribute("aria-label", say("unrolled_label", { steps: T, layers: given.num_layers, directions: D }));
    svg.replaceChildren(...parts);
  }

  return { draw };
})();
