"use strict";
// Words and numbers as the reader's language has them.

const LANGUAGES = { en: "English", ko: "한국어" };
const LANGUAGE = new URLSearchParams(location.search).get("lang") === "ko" ? "ko" : "en";

/** @param {string} key @param {{[name: string]: unknown}} [values] */
function say(key, values = {}) {
  return WORDS[LANGUAGE][key].replace(/\{(\w+)\}/g, (_, name) => String(values[name]));
}

/** What the package says, in the reader's language where that has it. @param {string} text */
const translated = (text) => WORDS[LANGUAGE][text] ?? text;

/** A number for people: four digits, a true minus. @param {number} value */
function shown(value) {
  if (!Number.isFinite(value)) return String(value);
  const size = Math.abs(value);
  const text = size !== 0 && (size < 1e-3 || size >= 1e5) ? value.toExponential(2) : value.toFixed(size < 10 ? 3 : size < 100 ? 2 : 1);
  return text.replace(/^-(?=0(\.0*)?$)/, "").replace("-", "−");
}
