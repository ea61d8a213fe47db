// Without this module neither the warning nor the protection could tell where a text encoder comes from.

/** @typedef {import("../shared/host.js").LGraphNode} LGraphNode */

export const PROTECTOR = "AnonymizeFaces";
const ACTIVE = 0;

/**
 * Where the text encoder at an input comes from.
 * @typedef {object} Source
 * @property {LGraphNode} node
 * @property {number} slot of its outputs
 */

/**
 * The node that is connected to an input.
 * @param {LGraphNode} node
 * @param {number} slot
 * @returns {Source | null} null if there is none, or it lies outside the subgraph
 */
export function connected(node, slot) {
  // A subgraph's own getInputLink looks inside it.
  const id = node.inputs[slot].link;
  const link = id == null ? null : node.graph?.getLink(id);
  const origin = link && node.graph?.getNodeById(link.origin_id);
  return origin ? { node: origin, slot: link.origin_slot } : null;
}

/**
 * Whether what a node hands on is protected, here or further up.
 * @param {LGraphNode} node
 * @returns {boolean}
 */
export function isProtected(node) {
  if (node.type === PROTECTOR) return node.mode === ACTIVE;
  if (node.isSubgraphNode?.()) return false;
  const above = clipInput(node);
  return above !== null && isProtected(above.node);
}

/**
 * The node that a text encoder first comes from, with nothing that changes it in between.
 * @param {LGraphNode} node that has a CLIP input
 * @returns {LGraphNode | null} null if it cannot be followed
 */
export function loaderOf(node) {
  let above = clipInput(node);
  while (above !== null && !above.node.isSubgraphNode?.()) {
    const next = clipInput(above.node);
    if (next === null) return hasClipInput(above.node) ? null : above.node;
    above = next;
  }
  return null;
}

/**
 * @param {LGraphNode} node
 * @returns {Source | null} what its first CLIP input is connected to
 */
function clipInput(node) {
  for (const [slot, input] of (node.inputs ?? []).entries()) {
    if (input.type === "CLIP" || isReroute(node)) {
      const source = connected(node, slot);
      if (source !== null) return source;
    }
  }
  return null;
}

/** @param {LGraphNode} node */
function hasClipInput(node) {
  return isReroute(node) || (node.inputs ?? []).some((input) => input.type === "CLIP");
}

/** @param {LGraphNode} node */
export function isReroute(node) {
  return node.type === "Reroute";
}
