// Chooses a prefix for a text encoder: one that fits the checkpoint that it comes from.

import { preferredPrefix } from "../shared/settings.js";
import { library } from "./library.js";

/** @typedef {import("../shared/host.js").LGraphNode} LGraphNode */

/** Families by what loaders of text encoders alone are set to, and by loaders of one family. @type {Record<string, string>} */
const FAMILIES = { sdxl: "SDXL", sd3: "SD3", flux: "Flux", TripleCLIPLoader: "SD3" };

/** Families of what Load Demo Model is set to; where no family can be told, it is none of them. @type {Record<string, string>} */
const DEMO_FAMILIES = { classic: "ClassicModel", modern: "ModernModel" };

/** As prefix/files/library.py has it: what stands for a prefix while none is chosen. The server refuses it at once. */
const NOT_CHOSEN = "(choose a prefix)";

/**
 * What a loader's settings tell of the family, and the file to look into where they do not.
 * @param {LGraphNode | null} loader
 * @returns {{ family: string, checkpoint: string }} either may be empty
 */
export function hints(loader) {
  const value = (/** @type {string} */ name) => loader?.widgets?.find((widget) => widget.name === name)?.value;
  const family =
    loader?.type === "LoadDemoModel"
      ? DEMO_FAMILIES[String(value("model") ?? "classic")]
      : FAMILIES[String(value("type") ?? loader?.type)];
  return { family: family ?? "", checkpoint: String(value("ckpt_name") ?? "") };
}

/**
 * The family of the first checkpoint of some nodes of which it can be told.
 * @param {LGraphNode[]} nodes
 * @returns {Promise<string>} empty if there is none
 */
export async function familyOfFirst(nodes) {
  for (const node of nodes) {
    const { family, checkpoint } = hints(node);
    const found = family || (checkpoint && (await library.familyOf(checkpoint)));
    if (found) return found;
  }
  return "";
}

/**
 * The prefix to protect with what comes from a loader: the artist's usual one if it fits, or the newest that does. Where
 * the family cannot be told, any may fit that was not learned on the demo model, and that is uncertain.
 * @param {LGraphNode | null} loader null if it cannot be told
 * @returns {Promise<{ prefix: string, fits: boolean, uncertain: boolean, family: string }>}
 * @throws {Error} the server could not be asked
 */
export async function choosePrefix(loader) {
  const { family: known, checkpoint } = hints(loader);
  const family = known || (checkpoint && (await library.familyOf(checkpoint)));
  const mayFit = (/** @type {import("./library.js").PrefixEntry} */ entry) => (family ? entry.fits !== false : !Object.values(DEMO_FAMILIES).includes(entry.family));
  const usable = (await library.list(family)).filter((entry) => !entry.fault && mayFit(entry));
  usable.sort((one, other) => other.modified.localeCompare(one.modified));
  const chosen = usable.find((entry) => entry.name === preferredPrefix()) ?? usable[0];
  return { prefix: chosen?.name ?? NOT_CHOSEN, fits: chosen !== undefined, uncertain: chosen?.fits !== true, family };
}
