"use strict";
// The layer's weights as a safetensors file: what `fastlstm.save` writes, so that `fastlstm.load` and the NumPy face read it.

const checkpoint = (() => {
  const NAMES = { float32: "F32", float64: "F64", bfloat16: "BF16", float16: "F16" };

  /** @param {Settings} given @param {string} dtype @returns {Uint8Array} */
  function file(given, dtype) {
    const arrays = shapes.describe(given).parameters;
    const datas = arrays.map((_, k) => engine.parameter(k));
    /** @type {{[name: string]: any}} */
    const header = { __metadata__: { fastlstm: description(given) } };
    let end = 0;
    arrays.forEach(({ name, shape }, k) => {
      const begin = end;
      end += datas[k].length;
      header[name] = { dtype: NAMES[dtype], shape: JSON.parse(shape.numbers.replace(/^\(/, "[").replace(/,?\)$/, "]")), data_offsets: [begin, end] };
    });
    const json = JSON.stringify(header);
    const text = new TextEncoder().encode(json.padEnd(Math.ceil(json.length / 8) * 8));
    const all = new Uint8Array(8 + text.length + end);
    new DataView(all.buffer).setBigUint64(0, BigInt(text.length), true);
    all.set(text, 8);
    let at = 8 + text.length;
    for (const data of datas) {
      all.set(data, at);
      at += data.length;
    }
    return all;
  }

  /** The class and the constructor's arguments. dropout is a float there, which JSON says by a fraction. @param {Settings} given */
  function description(given) {
    const { input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, proj_size } = given;
    const all = { input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional };
    const own = given.cell === "LSTM" ? { ...all, proj_size } : all;
    const json = JSON.stringify({ format: 1, class: given.cell, arguments: own });
    return json.replace(/"dropout":(\d+)(?=[,}])/, '"dropout":$1.0');
  }

  /** Arguments that no shape tells, of a file of `fastlstm.save` that the engine has read; of another none. @param {Uint8Array} bytes */
  function argumentsOf(bytes) {
    const length = Number(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true));
    try {
      const { __metadata__: metadata } = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + length)));
      const { batch_first, dropout } = JSON.parse(metadata.fastlstm).arguments;
      return typeof batch_first === "boolean" && typeof dropout === "number" ? { batch_first, dropout } : {};
    } catch {
      return {};
    }
  }

  /** @param {Uint8Array} bytes @param {string} name */
  function save(bytes, name) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([/** @type {any} */ (bytes)], { type: "application/octet-stream" }));
    link.download = name;
    link.click();
    URL.revokeObjectURL(link.href);
  }

  return { file, argumentsOf, save };
})();
