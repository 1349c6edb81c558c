"use strict";
// The constructor's arguments, those of the call, and the weights, as controls; what they say now.

const controls = (() => {
  const WHOLE = ["input_size", "hidden_size", "num_layers", "proj_size"];
  const FLAGS = ["bias", "batch_first", "bidirectional"];
  /** @type {{[name: string]: (string | null)[]}} */
  const CHOICES = { device: [null, "cpu", "meta"], dtype: [null, "torch.float32", "torch.float64", "torch.bfloat16", "torch.float16"] };
  const FIRST = { input_size: "1", hidden_size: "8", length: "12", batch: "1" };

  /** @param {string} name @param {any} input */
  function labelled(name, input, flag = false) {
    const help = element("span", { class: "help", id: `${name}-help` }, say(name));
    input.setAttribute("aria-describedby", `${name}-help`);
    const label = element("label", { for: name }, name);
    return element("div", { class: flag ? "field flag" : name === "dropout" ? "field whole" : "field" }, ...(flag ? [input, label] : [label, input]), help);
  }

  const text = (/** @type {string} */ name, /** @type {string} */ value) =>
    labelled(name, element("input", { id: name, value, inputmode: "decimal", autocomplete: "off", spellcheck: "false" }));
  const flag = (/** @type {string} */ name, /** @type {boolean} */ on) =>
    labelled(name, element("input", { id: name, type: "checkbox", checked: on }), true);
  const choice = (/** @type {string} */ name) =>
    labelled(name, element("select", { id: name }, ...CHOICES[name].map((value) => element("option", { value: value ?? "" }, value ?? "None"))));

  /** @param {() => void} changed */
  function build(changed) {
    const defaults = Object.fromEntries(TABLES.constructor.map((argument) => [argument.name, argument.default]));
    const field = (/** @type {string} */ name) =>
      FLAGS.includes(name) ? flag(name, defaults[name]) : name in CHOICES ? choice(name) : text(name, FIRST[name] ?? String(defaults[name]));
    byId("constructor-fields").append(...[...WHOLE, "dropout", ...FLAGS, ...Object.keys(CHOICES)].map(field));
    byId("call-fields").append(text("length", FIRST.length), text("batch", FIRST.batch), flag("unbatched", false));
    for (const form of ["constructor-fields", "call-fields", "cell"]) byId(form).addEventListener("input", changed);
  }

  const cell = () => /** @type {any} */ (document.querySelector("#cell input:checked")).value;

  /** As typed. @returns {{[name: string]: string}} */
  const typed = () => Object.fromEntries([...WHOLE, "dropout", "length", "batch"].map((name) => [name, byId(name).value]));

  /** Of settings that the constructor takes. @returns {Settings} */
  function settings() {
    const numbers = Object.fromEntries(Object.entries(typed()).map(([name, given]) => [name, shapes.literal(given).value]));
    const flags = Object.fromEntries([...FLAGS, "unbatched"].map((name) => [name, byId(name).checked]));
    const dtype = byId("dtype").value.replace("torch.", "") || "float32";
    return { cell: cell(), ...numbers, ...flags, ...(flags.unbatched ? { batch: 1 } : {}), device: byId("device").value || null, dtype };
  }

  /** The call of the constructor, as Python would be told. @param {Settings} given */
  function code(given) {
    const said = { num_layers: 1, bias: true, batch_first: false, dropout: 0, bidirectional: false, proj_size: 0 };
    const python = (/** @type {unknown} */ value) => (value === true ? "True" : value === false ? "False" : String(value));
    const more = Object.entries(said).filter(([name, usual]) => given[name] !== usual).map(([name]) => `, ${name}=${python(given[name])}`);
    for (const name of ["device", "dtype"]) {
      const chosen = byId(name).value;
      if (chosen) more.push(`, ${name}=${name === "device" ? `"${chosen}"` : chosen}`);
    }
    return `${given.cell}(${given.input_size}, ${given.hidden_size}${more.join("")})`;
  }

  /** From a file. @param {Sizes} of @param {{batch_first?: boolean, dropout?: number}} more */
  function show(of, { batch_first = byId("batch_first").checked, dropout = 0 }) {
    byId(`cell-${of.cell}`).checked = true;
    const numbers = { input_size: of.I, hidden_size: of.H, num_layers: of.layers, proj_size: of.P };
    for (const [name, value] of Object.entries(numbers)) byId(name).value = String(value);
    byId("bias").checked = of.bias;
    byId("batch_first").checked = batch_first;
    byId("dropout").value = String(dropout);
    byId("bidirectional").checked = of.D === 2;
    byId("dtype").value = of.dtype === "float32" ? "" : `torch.${of.dtype}`;
    byId("device").value = "";
  }

  /** At the argument it is about; null: nothing is wrong. @param {{message: string, kind: string, argument: string} | null} complaint */
  function mark(complaint) {
    for (const field of document.querySelectorAll(".field")) {
      const input = /** @type {any} */ (field.querySelector("input, select"));
      const own = complaint?.argument === input.id ? complaint : null;
      field.classList.toggle("warned", own?.kind === "UserWarning");
      input.setAttribute("aria-errormessage", "complaint");
      input.setAttribute("aria-invalid", own && own.kind !== "UserWarning" ? "true" : "false");
    }
    const line = byId("complaint");
    line.hidden = !complaint;
    line.classList.toggle("warning", complaint?.kind === "UserWarning");
    line.replaceChildren(...(complaint ? [element("b", {}, complaint.kind), ` ${complaint.message}`] : []));
  }

  return { build, typed, settings, code, show, mark, cell };
})();
