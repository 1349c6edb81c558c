"use strict";
// The page: what is chosen, what follows from it, and who shows it.

const MOST_PARAMETERS = 2_000_000;
const MOST_NUMBERS = 4_000_000; // of what a call's trace holds
const MOST_LAYERS = 24;
const MOST = { length: 400, batch: 50, input_size: 1000 }; // as many as pictures and menus show well

/** What is seen of the call. */
const view = { row: 0, feature: 0, layer: 0, direction: 0, step: 4, unit: 0 };
/** @type {{file: Uint8Array | null, bytes: Uint8Array | null, name: string, prefix: string, seed: number}} */
const weights = { file: null, bytes: null, name: "", prefix: "", seed: 0 };
/** The last call that was right: its settings, shapes and results. @type {any} */
let shownCall = null;
let started = false;

/** Everything anew, from the constructor on. */
function update() {
  const texts = { ...controls.typed(), ...(byId("unbatched").checked ? { batch: "1" } : {}) };
  const complaint = shapes.complaint(controls.cell(), texts) ?? fraction(texts);
  controls.mark(complaint);
  byId("batch").disabled = byId("unbatched").checked;
  byId("proj_size").closest(".field").classList.toggle("idle", controls.cell() === "GRU");
  const wrong = complaint !== null && complaint.kind !== "UserWarning";
  document.body.classList.toggle("stale", wrong);
  if (wrong) return;
  const given = controls.settings();
  byId("code").textContent = controls.code(given);
  if (given.num_layers > MOST_LAYERS) return refuse(say("too_many_layers", { layers: MOST_LAYERS }));
  const layer = shapes.describe(given);
  showShapes(layer);
  const why = started ? notRun(given, layer) : say("loading");
  if (why) return refuse(why);
  try {
    run(given, layer);
  } catch (error) {
    refuse(String(error instanceof Error ? error.message : error));
  }
}

/** describe takes whole numbers alone, as nn.LSTM's own dimensions are. */
function fraction(/** @type {{[name: string]: string}} */ texts) {
  const name = ["length", "batch"].find((one) => shapes.literal(texts[one]).type !== "int");
  return name === undefined ? null : { kind: "TypeError", argument: name, message: say("whole", { name, value: texts[name] }) };
}

/** @param {Settings} given @param {Described} layer */
function notRun(given, layer) {
  if (given.device === "meta") return say("on_meta");
  const D = given.bidirectional ? 2 : 1;
  const numbers = given.length * given.batch * (given.input_size + 8 * given.hidden_size * given.num_layers * D);
  const fits = Object.entries(MOST).every(([name, most]) => given[name] <= most);
  if (fits && layer.total <= MOST_PARAMETERS && numbers <= MOST_NUMBERS) return null;
  return say("too_large", { ...MOST, parameters: MOST_PARAMETERS.toLocaleString("en"), numbers: MOST_NUMBERS.toLocaleString("en") });
}

function refuse(/** @type {string} */ why) {
  byId("status").textContent = why;
  document.body.classList.add("stale");
}

/** @param {Settings} given @returns {Sizes} */
function sizesOf(given) {
  const { cell, input_size: I, hidden_size: H, proj_size: P, num_layers: layers, bidirectional, bias, dtype } = given;
  return { cell, I, H, P, layers, D: bidirectional ? 2 : 1, bias, dtype };
}

/** @param {Settings} given @param {Described} layer */
function run(given, layer) {
  if (weights.file) {
    engine.load(weights.file, weights.prefix);
    if (JSON.stringify(engine.sizes()) !== JSON.stringify(sizesOf(given))) {
      weights.file = null;
      byId("weights-note").textContent = say("left_file");
    }
  }
  if (!weights.file) engine.create(sizesOf(given), weights.seed);
  sequence.fit(given.length, given.batch, given.input_size);
  const plain = sequence.isPlain() ? null : engine.run(sequence.call(given.batch_first && !given.unbatched, true));
  const call = sequence.call(given.batch_first && !given.unbatched, false);
  const start = performance.now();
  const result = engine.run(call);
  const time = (performance.now() - start).toFixed(1);
  shownCall = { given, layer, call, result, plain };
  byId("status").textContent = say("ran", { count: layer.total.toLocaleString("en"), time, instructions: engine.instructions() });
  limitView(given);
  showCall();
}

/** @param {Settings} given */
function limitView(given) {
  const most = { row: given.batch, feature: given.input_size, layer: given.num_layers, direction: given.bidirectional ? 2 : 1, step: given.length, unit: given.hidden_size };
  for (const [name, count] of Object.entries(most)) view[name] = Math.min(view[name], count - 1);
  for (const name of ["row", "feature", "layer", "direction", "unit"]) {
    const select = byId(name);
    select.closest("label").hidden = most[name] === 1 && name !== "unit";
    if (select.options.length !== most[name]) {
      const label = (/** @type {number} */ k) => (name === "direction" ? say(k ? "reverse" : "forward") : String(k));
      select.replaceChildren(...Array.from({ length: most[name] }, (_, k) => element("option", { value: k }, label(k))));
    }
    select.value = String(view[name]);
  }
}

/** What depends on the call and on what is looked at. */
function showCall() {
  const { given, layer, call, result } = shownCall;
  const place = { T: call.T, N: call.N, batchFirst: call.batchFirst, row: view.row, step: view.step, unit: view.unit, length: call.lengths[view.row] };
  const steps = result.layers[view.layer][view.direction];
  const slider = byId("step");
  slider.max = call.T;
  slider.value = view.step + 1;
  slider.setAttribute("aria-valuetext", say("step_value", { step: view.step + 1, length: call.T }));
  byId("timeline").style.setProperty("--steps", String(call.T));
  byId("step-now").textContent = say("step_value", { step: view.step + 1, length: call.T });
  const values = sequence.get(view.row, view.feature);
  byId("plot").setAttribute("aria-label", say("plot_label", view));
  plot.draw(values, view.row, view.step);
  const setIdle = (/** @type {string} */ id, /** @type {string} */ value) => { if (document.activeElement !== byId(id)) byId(id).value = value; };
  setIdle("x-here", String(values[view.step]));
  setIdle("typed", values.join(" "));
  setIdle("row-length", String(place.length));
  byId("row-length").max = call.T;
  byId("reset-here").checked = sequence.reset(view.row, view.step);
  byId("clear").disabled = sequence.isPlain();
  heat.draw(given.cell, steps, place, (step, unit) => look({ step, unit }));
  showChange(place, steps);
  showStep(place, steps);
  showNumbers(place, steps);
  unrolled.draw(given, layer, view.step, (k, d, t) => stripes(place, k, d, t));
}

/** @param {Place} place @param {Steps} steps */
function showStep(place, steps) {
  const { given, result } = shownCall;
  const named = { step: view.step + 1, unit: view.unit, row: view.row, length: place.length };
  byId("equations-title").textContent = say("equations", named);
  const none = view.step >= place.length;
  byId("no-step").hidden = !none;
  byId("before").hidden = none;
  if (none) {
    byId("equations").replaceChildren();
    byId("no-step").textContent = byId("said").textContent = say("no_step", named);
    return;
  }
  const chain = view.layer * result.layers[0].length + view.direction;
  const of = engine.explain(chain, view.row, view.step, view.unit);
  /** @type {{[letter: string]: number}} */
  const values = {};
  /** @type {{[letter: string]: [number, number]}} */
  const limits = {};
  for (const row of TABLES.cells[given.cell].rows) {
    const width = heat.widthOf(steps[row.letter], place);
    limits[row.letter] = heat.limitsOf(row, steps[row.letter]);
    if (view.unit < width) values[row.letter] = heat.numberOf(steps[row.letter], width, place, view.step, view.unit);
  }
  const width = heat.widthOf(steps.h, place);
  const h = Array.from({ length: width }, (_, unit) => heat.numberOf(steps.h, width, place, view.step, unit));
  equations.draw(given, values, of, h, view.unit, limits);
  const before = Object.entries({ c: of.c, h: of.h[view.unit] }).filter(([, value]) => typeof value === "number");
  const zeros = of.h.every((value) => value === 0) && !of.c;
  const words = before.map(([letter, value]) => `${letter} ${shown(value ?? 0)}`).join(", ");
  byId("before").textContent = zeros ? say("from_zeros") : say("before", { values: words });
  const all = Object.entries(values).map(([letter, value]) => `${letter} ${shown(value)}`).join(", ");
  byId("said").textContent = say("said", { ...named, values: all });
}

/** What resets and lengths did to h of the layer shown: under the maps, step by step, and in a line. */
function showChange(/** @type {Place} */ place, /** @type {Steps} */ steps) {
  const { plain } = shownCall;
  const track = byId("changed");
  byId("changed-row").hidden = byId("changed-note").hidden = !plain;
  if (!plain) return;
  const other = plain.layers[view.layer][view.direction].h;
  const width = heat.widthOf(steps.h, place);
  const differences = Array.from({ length: place.T }, (_, t) => {
    const each = Array.from({ length: width }, (_, unit) =>
      Math.abs(heat.numberOf(steps.h, width, place, t, unit) - heat.numberOf(other, width, place, t, unit)));
    return Math.max(...each);
  });
  const largest = Math.max(...differences);
  track.replaceChildren(...differences.map((size) => element("i", { style: `opacity: ${largest === 0 ? 0 : size === 0 ? 0 : 0.15 + (0.85 * size) / largest}` })));
  byId("changed-note").textContent = largest === 0 ? say("unchanged")
    : say("changed", { largest: shown(largest), first: differences.findIndex((size) => size > 0) + 1 });
}

/** Colors of h and c of a step, for the drawing. @param {Place} place @returns {number[][][]} */
function stripes(place, /** @type {number} */ k, /** @type {number} */ d, /** @type {number} */ t) {
  if (t >= place.length) return [];
  const { given, result } = shownCall;
  const steps = result.layers[k][d];
  return TABLES.cells[given.cell].states.map((letter) => {
    const row = TABLES.cells[given.cell].rows.find((one) => one.letter === letter);
    const width = heat.widthOf(steps[letter], place);
    const [low, high] = heat.limitsOf(row, steps[letter]);
    return Array.from({ length: Math.min(width, 32) }, (_, unit) => colorOf(row.colors, heat.numberOf(steps[letter], width, place, t, unit), low, high));
  });
}

/** @param {Partial<typeof view>} chosen */
function look(chosen) {
  Object.assign(view, chosen);
  if (!shownCall) return;
  limitView(shownCall.given);
  showCall();
}
