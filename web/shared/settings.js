// Keeps the artist's own settings of the extension, in the host's dialog.

import { app } from "./host.js";
import { t } from "./text.js";

const PREFIX = "AnonymizeFaces.Prefix";
const STRENGTH = "AnonymizeFaces.Strength";
const NOTICES = "AnonymizeFaces.Notices";

/** @returns {any[]} for the host, which reads them while it registers the extension */
export function settings() {
  const place = (/** @type {string} */ name) => ["Anonymize Faces", t("settings.category"), name];
  return [
    {
      id: PREFIX,
      category: place("Prefix"),
      name: t("settings.prefix"),
      tooltip: t("settings.prefixTip"),
      type: "text",
      defaultValue: "",
    },
    {
      id: STRENGTH,
      category: place("Strength"),
      name: t("settings.strength"),
      tooltip: t("settings.strengthTip"),
      type: "slider",
      attrs: { min: 0.05, max: 1, step: 0.05 },
      defaultValue: 1,
    },
    {
      id: NOTICES,
      category: place("Notices"),
      name: t("settings.notices"),
      tooltip: t("settings.noticesTip"),
      type: "boolean",
      defaultValue: true,
    },
  ];
}

/** @returns {string} the file that the artist protects with where it fits, with its suffix; empty for none */
export function preferredPrefix() {
  const name = String(read(PREFIX) ?? "").trim();
  return name && !/\.(safetensors|pt|bin)$/.test(name) ? `${name}.safetensors` : name;
}

/** @returns {number} of the protection that is put in, above 0 */
export function preferredStrength() {
  const strength = Number(read(STRENGTH) ?? 1);
  return strength > 0 && strength <= 1 ? strength : 1;
}

/** @returns {boolean} whether what went well is told; warnings and errors always are */
export function noticesWanted() {
  return read(NOTICES) !== false;
}

/** @param {string} id */
function read(id) {
  return /** @type {any} */ (app.extensionManager.setting).get(id);
}
