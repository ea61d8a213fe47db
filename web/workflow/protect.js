// Without this module protecting a workflow would be a matter of dragging a node to every prompt, and forgetting one.

import { app, toast } from "../shared/host.js";
import { t } from "../shared/text.js";
import { connected, isProtected, isReroute, PROTECTOR } from "./clip_source.js";
import { makeRoom, placeAfter, takeRoomBack } from "./layout.js";

/** @typedef {import("../shared/host.js").LGraph} LGraph */
/** @typedef {import("../shared/host.js").LGraphNode} LGraphNode */

/** Take a text encoder as it comes from the checkpoint, and encode no prompt of the artist's. */
const WANT_IT_PLAIN = ["TrainAnonymizationPrefix", "CLIPSave", "CheckpointSave", "SaveCheckpoint"];
const ACTIVE = 0;

/** Puts Anonymize Faces after every text encoder that reaches a prompt, as one step to undo. */
export function protectWorkflow() {
  let added = 0;
  let woken = 0;
  asOneStep(() => {
    for (const graph of graphs()) {
      for (const node of graph.nodes.filter(sleeps)) {
        node.mode = ACTIVE;
        woken += 1;
      }
      for (const outlet of outlets(graph)) {
        insert(graph, outlet);
        added += 1;
      }
    }
  });
  if (added + woken === 0) {
    const known = graphs().some((graph) => graph.nodes.some((node) => node.type === PROTECTOR));
    toast("info", t(known ? "protect.already" : "protect.nothing"));
  } else toast("success", t("protect.done", { count: added + woken }), t("protect.check"));
}

/** Takes every Anonymize Faces out again and connects what it was between, as one step to undo. */
export function unprotectWorkflow() {
  let removed = 0;
  asOneStep(() => {
    for (const graph of graphs()) {
      for (const node of graph.nodes.filter((found) => found.type === PROTECTOR)) {
        remove(graph, node);
        removed += 1;
      }
    }
  });
  toast(removed ? "warn" : "info", t(removed ? "protect.undone" : "protect.none", { count: removed }));
}

/** @returns {LGraph[]} the workflow and its subgraphs */
function graphs() {
  const root = app.rootGraph ?? app.graph;
  return [root, .../** @type {any} */ (root).subgraphs.values()];
}

/** @param {() => void} change */
function asOneStep(change) {
  app.canvas.emitBeforeChange();
  try {
    change();
  } finally {
    app.canvas.emitAfterChange();
    app.canvas.setDirty(true, true);
  }
}

/** @param {LGraphNode} node */
function sleeps(node) {
  return node.type === PROTECTOR && node.mode !== ACTIVE;
}

/**
 * An output that hands a plain text encoder to prompts.
 * @typedef {object} Outlet
 * @property {LGraphNode} node
 * @property {number} slot
 * @property {{ node: LGraphNode, slot: number }[]} prompts
 */

/**
 * @param {LGraph} graph
 * @returns {Outlet[]}
 */
function outlets(graph) {
  /** @type {Map<string, Outlet>} */
  const found = new Map();
  for (const node of graph.nodes.filter(encodesPrompts)) {
    for (const [slot, input] of node.inputs.entries()) {
      const source = input.type === "CLIP" ? connected(node, slot) : null;
      if (source === null || isProtected(source.node)) continue;
      const key = `${source.node.id}:${source.slot}`;
      const outlet = found.get(key) ?? { ...source, prompts: [] };
      outlet.prompts.push({ node, slot });
      found.set(key, outlet);
    }
  }
  return [...found.values()];
}

/**
 * Whether a node may encode prompts with the text encoder that it is given: all but those known not to, and those that
 * only hand it on.
 * @param {LGraphNode} node
 */
function encodesPrompts(node) {
  if (node.type === PROTECTOR || WANT_IT_PLAIN.includes(node.type) || isReroute(node)) return false;
  if (!node.inputs?.some((input) => input.type === "CLIP")) return false;
  const types = node.outputs?.map((output) => output.type) ?? [];
  return Boolean(node.isSubgraphNode?.()) || types.includes("CONDITIONING") || !types.includes("CLIP");
}

/**
 * @param {LGraph} graph
 * @param {Outlet} outlet
 */
function insert(graph, outlet) {
  const node = window.LiteGraph.createNode(PROTECTOR);
  if (!node) throw new Error(`There is no node ${PROTECTOR}.`);
  placeAfter(node, outlet.node, outlet.slot);
  graph.add(node);
  node.properties.anonymizeFacesRoom = makeRoom(graph, node, outlet.node);
  outlet.node.connect(outlet.slot, node, 0);
  for (const prompt of outlet.prompts) node.connect(0, prompt.node, prompt.slot);
}

/**
 * @param {LGraph} graph
 * @param {LGraphNode} node
 */
function remove(graph, node) {
  const source = connected(node, 0);
  for (const id of [...(node.outputs[0].links ?? [])]) {
    const link = graph.getLink(id);
    const target = link && graph.getNodeById(link.target_id);
    if (target && source) source.node.connect(source.slot, target, link.target_slot);
  }
  const room = Number(node.properties.anonymizeFacesRoom ?? 0);
  const left = node.pos[0];
  graph.remove(node);
  takeRoomBack(graph, left, room);
}
