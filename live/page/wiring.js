"use strict";
// What the reader does: typing, drawing, moving along time, bringing a file.

let waiting = false;
/** Once a frame, however many changes there are. */
function later() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    update();
  });
}

function wireSequence() {
  const svg = byId("plot");
  let drawing = false;
  const draw = (/** @type {PointerEvent} */ event) => {
    const { step, value } = plot.at(event, sequence.get(view.row, view.feature));
    sequence.put(view.row, view.feature, step, value);
    view.step = step;
    later();
  };
  svg.addEventListener("pointerdown", (/** @type {PointerEvent} */ event) => {
    if (!shownCall) return;
    drawing = true;
    svg.setPointerCapture(event.pointerId);
    draw(event);
  });
  svg.addEventListener("pointermove", (/** @type {PointerEvent} */ event) => drawing && draw(event));
  for (const end of ["pointerup", "pointercancel"]) svg.addEventListener(end, () => { drawing = false; });
  svg.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
    if (!shownCall || event.ctrlKey || event.metaKey || event.altKey) return;
    const values = sequence.get(view.row, view.feature);
    const moved = (/** @type {number} */ to) => look({ step: Math.max(0, Math.min(values.length - 1, to)) });
    const raised = (/** @type {number} */ by) => {
      sequence.put(view.row, view.feature, view.step, Math.round((values[view.step] + by) * 100) / 100);
      update();
    };
    const large = event.shiftKey ? 5 : 1;
    /** @type {{[key: string]: () => void}} */
    const keys = {
      ArrowLeft: () => moved(view.step - 1),
      ArrowRight: () => moved(view.step + 1),
      Home: () => moved(0),
      End: () => moved(values.length - 1),
      ArrowUp: () => raised(0.1 * large),
      ArrowDown: () => raised(-0.1 * large),
      r: () => { sequence.toggle(view.row, view.step); update(); },
      e: () => { sequence.end(view.row, sequence.length(view.row) === view.step ? values.length : view.step); update(); },
    };
    const act = keys[event.key] ?? keys[event.key.toLowerCase()];
    if (!act) return;
    event.preventDefault();
    act();
  });
  byId("step").addEventListener("input", () => look({ step: Number(byId("step").value) - 1 }));
  for (const name of ["row", "feature", "layer", "direction", "unit"])
    byId(name).addEventListener("input", () => look({ [name]: Number(byId(name).value) }));
  byId("reset-here").addEventListener("input", () => { sequence.toggle(view.row, view.step); update(); });
  byId("row-length").addEventListener("input", () => {
    const { type, value } = shapes.literal(byId("row-length").value);
    if (type === "int" && value >= 0) {
      sequence.end(view.row, Number(value));
      update();
    }
  });
  byId("clear").addEventListener("click", () => { sequence.clear(); update(); });
  byId("x-here").addEventListener("input", () => {
    const { type, value } = shapes.literal(byId("x-here").value);
    if (type === "str") return;
    sequence.put(view.row, view.feature, view.step, Number(value));
    update();
  });
  byId("typed").addEventListener("change", readTyped);
}

/** As many numbers as there are steps from now on. */
function readTyped() {
  const parts = byId("typed").value.split(/[\s,;[\]]+/).filter(Boolean);
  const wrong = parts.find((/** @type {string} */ part) => shapes.literal(part).type === "str") ?? (parts.length === 0 ? "nothing" : null);
  byId("typed").setAttribute("aria-invalid", String(wrong !== null));
  byId("typed-error").textContent = wrong === null ? "" : say("not_numbers", { value: wrong });
  if (wrong !== null) return;
  sequence.fit(parts.length, shownCall.call.N, shownCall.given.input_size);
  parts.forEach((/** @type {string} */ part, /** @type {number} */ t) => sequence.put(view.row, view.feature, t, Number(part)));
  byId("length").value = String(parts.length);
  update();
}

function wireWeights() {
  byId("seed").addEventListener("input", () => {
    const { type, value } = shapes.literal(byId("seed").value);
    const right = type === "int" && value >= 0 && value < 2 ** 32;
    byId("seed").setAttribute("aria-invalid", String(!right));
    if (!right) return;
    Object.assign(weights, { seed: value, file: null });
    bySeed();
    update();
  });
  byId("open").addEventListener("click", () => byId("file").click());
  byId("file").addEventListener("change", () => {
    const [file] = byId("file").files;
    if (file) open(file);
    byId("file").value = "";
  });
  byId("prefix").addEventListener("change", () => weights.bytes && take(weights.bytes, weights.name));
  byId("save").addEventListener("click", () => {
    if (!shownCall) return;
    const { given } = shownCall;
    checkpoint.save(checkpoint.file(given, given.dtype), `${given.cell.toLowerCase()}.safetensors`);
  });
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    document.body.classList.add("dropping");
  });
  document.addEventListener("dragleave", (event) => event.relatedTarget ?? document.body.classList.remove("dropping"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("dropping");
    const file = event.dataTransfer?.files[0];
    if (file) open(file);
  });
}

function bySeed() {
  byId("weights-note").textContent = say("from_seed", { seed: weights.seed });
  byId("weights-note").classList.remove("error");
}

/** @param {File} file */
async function open(file) {
  weights.bytes = new Uint8Array(await file.arrayBuffer());
  take(weights.bytes, file.name);
}

/** The layer of a file, or a line of what is wrong with it; then the layer is what it was. @param {Uint8Array} bytes @param {string} name */
function take(bytes, name) {
  const note = byId("weights-note");
  try {
    const prefix = byId("prefix").value;
    engine.load(bytes, prefix);
    Object.assign(weights, { file: bytes, prefix, name });
    controls.show(engine.sizes(), checkpoint.argumentsOf(bytes));
    note.classList.remove("error");
    note.textContent = say("from_file", { name });
    update();
  } catch (error) {
    note.classList.add("error");
    note.textContent = say("bad_file", { name, error: error instanceof Error ? error.message : error });
  }
}

async function begin() {
  document.documentElement.lang = LANGUAGE;
  for (const place of document.querySelectorAll("[data-say]")) place.textContent = say(/** @type {any} */ (place).dataset.say);
  const other = LANGUAGE === "en" ? "ko" : "en";
  Object.assign(byId("other-language"), { textContent: LANGUAGES[other], lang: other, hreflang: other, href: `?lang=${other}` });
  if (LANGUAGE === "ko") byId("back").href = "../docs/ko/index.html";
  byId("settings").open = window.innerWidth > 760;
  document.title = `${say("title")} — fastlstm`;
  controls.build(later);
  wireSequence();
  wireWeights();
  bySeed();
  update();
  try {
    await engine.start();
    started = true;
  } catch (error) {
    refuse(say("failed"));
    console.warn(error);
    return;
  }
  update();
  document.body.dataset.ready = "true";
}

begin();
