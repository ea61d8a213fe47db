// Keeps what prefixes took prompts for: whether a prompt names somebody, as the server tells when it is read.

import { api, app } from "../shared/host.js";
import { percent, t } from "../shared/text.js";

/** @typedef {import("../shared/host.js").LGraphNode} LGraphNode */

/** As nodes/shared/interface.py sends it. */
const READ = "anonymize_faces.read";
/** From here on a prompt counts as protected whole. */
const WHOLE = 0.95;

/**
 * How far a prefix acts on the prompts that each node read in its last run, by the node that has the prefix.
 * @typedef {{ least: number, most: number }} Acts of several text encoders
 * @type {Map<string, Map<string, { run: string, acts: Acts[] }>>}
 */
const known = new Map();
/** Tells of a change. */
export const promptsRead = new EventTarget();

/** Hears what the server tells; call once. */
export function followPrompts() {
  let run = "";
  api.addEventListener("execution_start", (/** @type {any} */ { detail }) => {
    run = detail?.prompt_id ?? "";
  });
  api.addEventListener(/** @type {any} */ (READ), (/** @type {any} */ { detail }) => {
    const { node_id, workflow_id, reader, least, most } = detail;
    const acts = { least, most };
    const key = keyOf(workflow_id, String(node_id));
    const readers = (reader && known.get(key)) || new Map();
    known.set(key, readers);
    const before = readers.get(reader);
    if (reader) readers.set(reader, { run, acts: before?.run === run ? [...before.acts, acts] : [acts] });
    promptsRead.dispatchEvent(new Event("change"));
  });
}

/**
 * What is known of the prompts that were read with a node's prefix, a line for each node that reads some.
 * @param {LGraphNode} node
 * @returns {[kind: string, text: string][]}
 */
export function linesOf(node) {
  if (!node.graph) return [];
  const found = [...known].filter(([key]) => {
    const [workflow, path] = JSON.parse(key);
    return [null, app.rootGraph?.id, app.graph.id].includes(workflow) && nodeAt(path) === node;
  });
  const read = found.flatMap(([, readers]) => [...readers].map(([reader, { acts }]) => ({ by: nodeAt(reader), acts })));
  const there = read.flatMap(({ by, acts }) => (by ? [{ by, acts }] : []));
  there.sort((one, other) => one.by.pos[1] - other.by.pos[1] || one.by.pos[0] - other.by.pos[0]); // As they stand.
  const count = (/** @type {string} */ title) => there.filter(({ by }) => by.title === title).length;
  return there.map(({ by, acts }) => worded(count(by.title) > 1 ? `${by.title} #${by.id}` : by.title, acts));
}

/**
 * @param {string} node what reads the prompts
 * @param {Acts[]} acts how far the prefix acts on each
 * @returns {[kind: string, text: string]}
 */
function worded(node, acts) {
  const named = acts.filter(({ most }) => most > 0);
  if (!named.length) return ["quiet", t("prefix.prompt.nobody", { node })];
  const share = Math.min(...named.map(({ least }) => least));
  if (share < WHOLE) return ["", t("prefix.prompt.partly", { node, percent: percent(share) })];
  if (named.length < acts.length) return ["", t("prefix.prompt.some", { node, count: named.length, of: acts.length })];
  return ["", t("prefix.prompt.named", { node })];
}

/**
 * @param {string | null} workflow
 * @param {string} path
 */
function keyOf(workflow, path) {
  return JSON.stringify([workflow ?? null, path]);
}

/**
 * The node of the server's id, which inside of subgraphs is a path, as 7:3.
 * @param {string} path
 * @returns {LGraphNode | null}
 */
function nodeAt(path) {
  let graph = /** @type {any} */ (app.rootGraph ?? app.graph);
  let node = null;
  for (const id of path.split(":")) {
    node = graph?.getNodeById(Number(id)) ?? graph?.getNodeById(id) ?? null;
    graph = node?.subgraph;
  }
  return node;
}
