// Makes room for a node that is put between others.

import { app } from "../shared/host.js";

/** @typedef {import("../shared/host.js").LGraph} LGraph */
/** @typedef {import("../shared/host.js").LGraphNode} LGraphNode */

const GAP = 50;
const SLOT_HEIGHT = 20;
const TITLE_HEIGHT = 30;
/** By how much a node may be higher in "Nodes 2.0" than its size says before it has been drawn there. */
const VUE_SLACK = 40;
/** Nodes that keep their sizes for so many looks keep them. */
const STEADY = 5;
const MOST_TRIES = 20;
const TRY_MILLISECONDS = 50;

/**
 * Right of a node, at the height of one of its outputs.
 * @param {LGraphNode} node to be placed
 * @param {LGraphNode} after
 * @param {number} slot
 */
export function placeAfter(node, after, slot) {
  node.pos = [after.pos[0] + after.size[0] + GAP, after.pos[1] + slot * SLOT_HEIGHT];
}

/**
 * @param {LGraphNode} node
 * @param {number} x
 * @param {number} y
 */
function move(node, x, y) {
  node.pos = [x, y];
  // The Vue rendering of older frontends has places of its own.
  if (window.LiteGraph.vueNodesMode && node.graph === app.canvas.graph) {
    /** @type {any} */ (app.canvas).repositionNodesVueMode?.([{ node, newPos: { x, y } }]);
  }
}

/**
 * Moves all that lies right of a node's neighbour to the right, if the node would lie on any of it.
 * @param {LGraph} graph
 * @param {LGraphNode} node
 * @param {LGraphNode} after its neighbour on the left
 * @returns {number} by how much
 */
export function makeRoom(graph, node, after) {
  const edge = after.pos[0] + after.size[0];
  const right = graph.nodes.filter((other) => other !== node && other !== after && other.pos[0] >= edge - 1);
  const covered = right.filter((other) => overlap(node, other));
  if (!covered.length) return lowerUntilFree(graph, node);
  const room = node.pos[0] + node.size[0] + GAP - Math.min(...covered.map((other) => other.pos[0]));
  shift(graph, edge - 1, room, node);
  lowerUntilFree(graph, node);
  return room;
}

/**
 * Undoes `makeRoom`.
 * @param {LGraph} graph
 * @param {number} left edge of the node that was there
 * @param {number} room
 */
export function takeRoomBack(graph, left, room) {
  if (room > 0) shift(graph, left + room, -room);
}

/** Waits until the host has measured new nodes, which it does in "Nodes 2.0", for a second at most. */
export async function sizesAreSteady() {
  if (!window.LiteGraph.vueNodesMode) return;
  const sizes = () => app.canvas.graph?.nodes.map((node) => [...node.size]).join() ?? "";
  let before = "";
  for (let [tries, steady] = [0, 0]; tries < MOST_TRIES && steady < STEADY; tries += 1) {
    await new Promise((done) => setTimeout(done, TRY_MILLISECONDS));
    steady = sizes() === before ? steady + 1 : 0;
    before = sizes();
  }
}

/**
 * What still lies there begins left of the room: go below it.
 * @param {LGraph} graph
 * @param {LGraphNode} node
 */
function lowerUntilFree(graph, node) {
  for (let tries = 0; tries < graph.nodes.length; tries += 1) {
    const below = graph.nodes.find((other) => other !== node && overlap(node, other));
    if (!below) break;
    move(node, node.pos[0], below.pos[1] + heightOf(below) + TITLE_HEIGHT + GAP / 2);
  }
  return 0;
}

/**
 * @param {LGraphNode} one
 * @param {LGraphNode} other
 */
function overlap(one, other) {
  return (
    one.pos[0] < other.pos[0] + other.size[0] + GAP / 2 &&
    other.pos[0] < one.pos[0] + one.size[0] + GAP / 2 &&
    one.pos[1] - TITLE_HEIGHT < other.pos[1] + heightOf(other) &&
    other.pos[1] - TITLE_HEIGHT < one.pos[1] + heightOf(one)
  );
}

/**
 * Pixels below the title, as the node is drawn.
 * @param {LGraphNode} node
 */
function heightOf(node) {
  if (node.flags?.collapsed) return 0;
  if (!window.LiteGraph.vueNodesMode) return node.size[1];
  const drawn = document.querySelector(`[data-node-id="${node.id}"]`);
  if (!drawn || node.graph !== app.canvas.graph) return node.size[1] + VUE_SLACK;
  return Math.max(node.size[1], drawn.getBoundingClientRect().height / app.canvas.ds.scale - TITLE_HEIGHT);
}

/**
 * Moves nodes, the ends of a subgraph, groups and reroutes that begin right of an edge; a group that goes across it grows.
 * @param {LGraph} graph
 * @param {number} edge
 * @param {number} by
 * @param {LGraphNode} [but]
 */
function shift(graph, edge, by, but) {
  for (const node of graph.nodes) {
    if (node !== but && node.pos[0] >= edge) move(node, node.pos[0] + by, node.pos[1]);
  }
  // The ends of a subgraph; the workflow itself has none.
  for (const end of [/** @type {any} */ (graph).inputNode, /** @type {any} */ (graph).outputNode]) {
    if (end && end.pos[0] >= edge) end.pos = [end.pos[0] + by, end.pos[1]];
  }
  for (const group of graph.groups ?? []) {
    if (group.pos[0] >= edge) group.pos = [group.pos[0] + by, group.pos[1]];
    else if (group.pos[0] + group.size[0] > edge) group.size = [group.size[0] + by, group.size[1]];
  }
  for (const reroute of graph.reroutes?.values() ?? []) {
    if (reroute.pos[0] >= edge) reroute.pos = [reroute.pos[0] + by, reroute.pos[1]];
  }
}
