// Gives the browser side its words, out of the locales/ folder.

import { api, app } from "./host.js";

/** By language. @type {Record<string, any>} */
let languages = {};

/** Fetches the words once, as the host itself does; until then, and if they cannot be had, `t` returns keys. */
export async function loadText() {
  try {
    const response = await api.fetchApi("/i18n");
    if (response.ok) languages = await response.json();
  } catch (error) {
    console.warn("Anonymize Faces: its texts could not be loaded.", error);
  }
}

/** @returns {string} the language of the frontend */
export function locale() {
  return app.extensionManager.setting.get("Comfy.Locale") || "en";
}

/**
 * A text of locales/<language>/main.json.
 * @param {string} key as "training.stop"
 * @param {Record<string, string | number>} [values] for the {places} in it
 * @returns {string}
 */
export function t(key, values = {}) {
  const text = find(languages[locale()], key) ?? find(languages.en, key) ?? key;
  return text.replace(/\{(\w+)\}/g, (place, name) => String(values[name] ?? place));
}

/**
 * @param {Record<string, any> | undefined} language
 * @param {string} key
 * @returns {string | undefined}
 */
function find(language, key) {
  /** @type {any} */
  let found = language?.anonymizeFaces;
  for (const part of key.split(".")) found = found?.[part];
  return typeof found === "string" ? found : undefined;
}

/**
 * @param {number} share 0.12
 * @returns {string} "12%", as the language writes it; never "0%" for something that is not nothing
 */
export function percent(share) {
  const format = new Intl.NumberFormat(locale(), { style: "percent", maximumFractionDigits: 0 });
  return share > 0 && share < 0.005 ? `< ${format.format(0.01)}` : format.format(share);
}

/**
 * @param {number} seconds
 * @returns {string} "2:05" or "1:02:05"
 */
export function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  const parts = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const shown = parts[0] ? parts : parts.slice(1);
  return shown.map((part, index) => (index ? String(part).padStart(2, "0") : String(part))).join(":");
}
