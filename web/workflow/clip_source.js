// Tells where a text encoder comes from, and whether every way that it may come by is protected.

import { app } from "../shared/host.js";

/** @typedef {import("../shared/host.js").LGraph} LGraph */
/** @typedef {import("../shared/host.js").LGraphNode} LGraphNode */

export const PROTECTOR = "AnonymizeFaces";
export const ACTIVE = 0;
const BYPASSED = 4;
/** What the host calls the two ends of a subgraph, seen from inside. */
const SUBGRAPH_INPUT = -10;
/** Sockets of these types may hand on anything. */
const ANYTHING = ["*", "", "0", "COMFY_MATCHTYPE_V3"];

/**
 * An output of a node.
 * @typedef {object} Source
 * @property {LGraphNode} node
 * @property {number} slot
 */

/**
 * What a text encoder may be, by the ways that it may come by: "protected" by an Anonymize Faces that protects, "plain",
 * or "unseen" where a way cannot be followed.
 * @typedef {Set<"protected" | "plain" | "unseen">} Ways
 */

/** @returns {LGraph[]} the workflow and its subgraphs */
export function graphs() {
  const root = app.rootGraph ?? app.graph;
  return [root, .../** @type {any} */ (root).subgraphs.values()];
}

/**
 * The node that is connected to an input.
 * @param {LGraphNode} node
 * @param {number} slot
 * @returns {Source | null} null if there is none, or it lies outside the subgraph
 */
export function connected(node, slot) {
  const link = linkInto(node, slot);
  const origin = link && node.graph?.getNodeById(link.origin_id);
  return origin ? { node: origin, slot: link.origin_slot } : null;
}

/**
 * What is connected to an input, or where that leads outside the subgraph.
 * @param {LGraphNode} node
 * @param {number} slot
 * @returns {Source | { instances: LGraphNode[], slot: number } | null} null if nothing is connected
 */
export function above(node, slot) {
  const link = linkInto(node, slot);
  return link && node.graph ? originOf(node.graph, link) : null;
}

/**
 * The ways by which a text encoder comes into an input.
 * @param {LGraphNode} node
 * @param {number} slot
 * @param {Set<string>} [passed]
 * @returns {Ways}
 */
export function waysInto(node, slot, passed = new Set()) {
  return waysFrom(above(node, slot), passed);
}

/**
 * The inputs of a node that bring a text encoder, or may bring one, as it is connected.
 * @param {LGraphNode} node
 * @returns {number[]} their slots
 */
export function clipInputs(node) {
  return (node.inputs ?? []).flatMap((input, slot) => {
    const link = linkInto(node, slot);
    return link && mayBeClip(input.type) && mayBeClip(typeOf(above(node, slot))) ? [slot] : [];
  });
}

/**
 * Whether an Anonymize Faces protects: not if it is bypassed, muted or of strength 0.
 * @param {LGraphNode} node
 * @returns {"protected" | "plain" | "unseen"}
 */
export function protection(node) {
  if (node.mode !== ACTIVE) return "plain";
  const slot = node.inputs?.findIndex((input) => input.name === "strength") ?? -1;
  if (slot >= 0 && linkInto(node, slot)) return "unseen";
  const strength = strengthOf(node)?.value ?? 1;
  return Number(strength) > 0 ? "protected" : "plain";
}

/** @param {LGraphNode} node */
export function strengthOf(node) {
  return node.widgets?.find((widget) => widget.name === "strength");
}

/**
 * The node that a text encoder first comes from, with nothing that changes it in between.
 * @param {LGraphNode} node that has a CLIP input
 * @returns {LGraphNode | null} null if it cannot be followed
 */
export function loaderOf(node) {
  const passed = new Set();
  let source = firstSource(node);
  while (source !== null && !source.node.isSubgraphNode?.() && !passed.has(source.node)) {
    passed.add(source.node);
    const next = firstSource(source.node);
    if (next === null) return (source.node.inputs ?? []).some((input) => input.type === "CLIP") || isReroute(source.node) ? null : source.node;
    source = next;
  }
  return null;
}

/**
 * The node that what a node hands on first comes from: itself, if it gets no text encoder.
 * @param {LGraphNode} node
 * @returns {LGraphNode | null} null if it cannot be followed
 */
export function loaderFrom(node) {
  const gets = isReroute(node) || node.isSubgraphNode?.() || (node.inputs ?? []).some((input) => input.type === "CLIP");
  return gets ? loaderOf(node) : node;
}

/** @param {LGraphNode} node */
export function isReroute(node) {
  return node.type === "Reroute";
}

/**
 * @param {LGraphNode} node
 * @returns {Source | null} what its first CLIP input is connected to
 */
function firstSource(node) {
  for (const [slot, input] of (node.inputs ?? []).entries()) {
    if (input.type === "CLIP" || isReroute(node)) {
      const source = connected(node, slot);
      if (source !== null) return source;
    }
  }
  return null;
}

/**
 * @param {LGraphNode} node
 * @param {number} slot
 */
function linkInto(node, slot) {
  // A subgraph's own getInputLink looks inside it.
  const id = node.inputs?.[slot]?.link;
  return id == null ? null : (node.graph?.getLink(id) ?? null);
}

/**
 * @param {any} graph
 * @param {{ origin_id: any, origin_slot: number }} link
 * @returns {ReturnType<typeof above>}
 */
function originOf(graph, link) {
  if (Number(link.origin_id) === SUBGRAPH_INPUT) return { instances: instancesOf(graph), slot: link.origin_slot };
  const node = graph.getNodeById(link.origin_id);
  return node ? { node, slot: link.origin_slot } : null;
}

/**
 * The nodes that stand for a subgraph, wherever they are.
 * @param {LGraph} subgraph
 */
function instancesOf(subgraph) {
  return graphs().flatMap((graph) => graph.nodes.filter((node) => /** @type {any} */ (node).subgraph === subgraph));
}

/**
 * @param {ReturnType<typeof above>} origin
 * @param {Set<string>} passed outputs that were followed already: what goes round brings nothing new
 * @returns {Ways}
 */
function waysFrom(origin, passed) {
  if (origin === null) return new Set(["unseen"]);
  if ("instances" in origin) return union(origin.instances.map((node) => waysInto(node, origin.slot, passed)));
  const { node, slot } = origin;
  const key = `${node.graph?.id} ${node.id} ${slot}`;
  if (passed.has(key)) return new Set();
  passed.add(key);
  if (node.type === PROTECTOR && protection(node) !== "plain") return new Set([protection(node)]);
  if (node.mode === BYPASSED) {
    const through = bypass(node, slot);
    return through < 0 ? new Set(["plain"]) : waysInto(node, through, passed);
  }
  if (node.isSubgraphNode?.()) return union(insideOf(node, slot).map((inner) => waysFrom(inner, passed)));
  const inputs = clipInputs(node);
  // What gets no text encoder brings one.
  return inputs.length ? union(inputs.map((input) => waysInto(node, input, passed))) : new Set(["plain"]);
}

/**
 * What leads to an output of a node that stands for a subgraph.
 * @param {LGraphNode} node
 * @param {number} slot
 * @returns {ReturnType<typeof above>[]}
 */
function insideOf(node, slot) {
  const { subgraph } = /** @type {any} */ (node);
  /** @type {number[]} */
  const ids = subgraph?.outputs?.[slot]?.linkIds ?? [];
  const links = ids.map((id) => subgraph.getLink(id)).filter(Boolean);
  return links.length ? links.map((link) => originOf(subgraph, link)) : [null];
}

/**
 * The input that a bypassed node hands on at an output, by the host's rule.
 * @param {LGraphNode} node
 * @param {number} slot
 * @returns {number} -1 if there is none
 */
function bypass(node, slot) {
  const type = node.outputs?.[slot]?.type;
  if (node.inputs?.[slot]?.type === type) return slot;
  return (node.inputs ?? []).findIndex((input) => input.type === type || ANYTHING.includes(String(input.type)));
}

/** @param {ReturnType<typeof above>} origin */
function typeOf(origin) {
  if (origin === null) return "*";
  if ("instances" in origin) return origin.instances[0]?.inputs?.[origin.slot]?.type;
  return origin.node.outputs?.[origin.slot]?.type;
}

/** @param {unknown} type of a socket */
function mayBeClip(type) {
  const names = String(type ?? "*").split(",");
  return names.includes("CLIP") || names.some((name) => ANYTHING.includes(name));
}

/**
 * @param {Ways[]} ways
 * @returns {Ways}
 */
function union(ways) {
  return new Set(ways.flatMap((each) => [...each]));
}
