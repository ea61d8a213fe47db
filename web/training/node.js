// Puts the panel on the node that learns, and tells it of that node's runs.

import { addElement, app, chain, fixHeight } from "../shared/host.js";
import { TrainingPanel } from "./panel.js";
import { goesOn, training } from "./store.js";

/** @typedef {import("../shared/host.js").LGraphNode} LGraphNode */
/** @typedef {import("./store.js").Run} Run */

/** Pixels in which four people have room. */
const WIDTH = 420;

/**
 * Puts the panel on a node that was just made.
 * @param {LGraphNode} node
 */
export function addTrainingPanel(node) {
  const panel = new TrainingPanel();
  const height = () => TrainingPanel.height(node.size[0]);
  /** @type {Run | null} */
  let last = null;
  node.size[0] = Math.max(node.size[0], WIDTH);
  addElement(node, "training", panel.element, () => {
    fixHeight(panel.element, height());
    return height();
  });
  const update = () => {
    const run = runOf(node, training.run);
    // A run of another node ends nothing of what this one shows; only that it goes on could be no longer true.
    if (run !== null || goesOn(last)) last = run;
    panel.show(last);
  };
  chain(node, "onAdded", () => {
    training.addEventListener("change", update);
    training.join(panel);
    update();
  });
  chain(node, "onRemoved", () => {
    training.removeEventListener("change", update);
    training.leave(panel);
  });
}

/**
 * The run, if it is this node's.
 * @param {LGraphNode} node
 * @param {Run | null} run
 */
function runOf(node, run) {
  if (run === null || !node.graph) return null;
  // Inside a subgraph the server's id is a path, as 7:3.
  const sameNode = run.node_id?.split(":").at(-1) === String(node.id);
  const sameWorkflow = run.workflow_id === null || run.workflow_id === app.rootGraph?.id || run.workflow_id === app.graph.id;
  return sameNode && sameWorkflow ? run : null;
}
