// Lets an Identity List begin with kinds of people and their looks, into which the artist writes names.

import { chain, toast } from "../shared/host.js";
import { t } from "../shared/text.js";

/** @typedef {import("../shared/host.js").LGraphNode} LGraphNode */

/** The lists beside this file, by their names, and what they are called. */
const LISTS = /** @type {const} */ ([
  ["film_and_television", "people.film"],
  ["music_and_sport", "people.music"],
  ["history_and_science", "people.history"],
]);

/** As trainer/data/identities.py has it: what a new node's list names. */
const EXAMPLE = "Ada Example: a woman with brown hair and glasses";

/**
 * Puts the button on a node that was just made.
 * @param {LGraphNode} node
 */
export function addPeopleLists(node) {
  // Older frontends show its name in "Nodes 2.0", whatever its label.
  const button = node.addWidget("button", t("people.insert"), "", () => choose(node));
  button.serialize = false;
  Object.assign(button.options, { serialize: false });
  // Nodes of older workflows are as high as they were without it.
  for (const event of ["onAdded", "onConfigure"]) {
    chain(node, event, () => queueMicrotask(() => node.setSize([node.size[0], Math.max(node.size[1], node.computeSize()[1])])));
  }
}

/** @param {LGraphNode} node */
function choose(node) {
  const choices = LISTS.map(([name, title]) => ({ content: t(title), callback: () => void insert(node, name) }));
  const { event } = window;
  new (/** @type {any} */ (window.LiteGraph).ContextMenu)(choices, { title: t("people.insert"), event: /** @type {any} */ (event instanceof MouseEvent ? event : undefined) });
}

/**
 * Puts a list behind what is there, or in place of the example.
 * @param {LGraphNode} node
 * @param {string} name
 */
async function insert(node, name) {
  const text = node.widgets?.find((widget) => widget.name === "text");
  const response = await fetch(new URL(`./${name}.txt`, import.meta.url)).catch(() => null);
  if (!text || !response?.ok) {
    toast("error", t("server.away"));
    return;
  }
  const said = String(text.value ?? "").trimEnd();
  const before = said.split("\n").every((line) => line.startsWith("#") || line === EXAMPLE) ? "" : said;
  const value = `${before}${before && "\n"}${await response.text()}`;
  text.value = value;
  text.callback?.(value);
}
