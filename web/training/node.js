// Puts the panel on the node that learns, and tells it of that node's runs.

import { addElement, app, chain, fitHeight } from "../shared/host.js";
import { TrainingPanel } from "./panel.js";
import { training } from "./store.js";

/** @typedef {import("../shared/host.js").LGraphNode} LGraphNode */
/** @typedef {import("./store.js").Run} Run */

/**
 * Puts the panel on a node that was just made.
 * @param {LGraphNode} node
 */
export function addTrainingPanel(node) {
  let wanted = 0;
  const panel = new TrainingPanel(() => {
    const height = panelHeight();
    if (height === wanted) return;
    wanted = height;
    panel.element.style.minHeight = `${height}px`;
    fitHeight(node);
  });
  const panelHeight = () => Math.ceil(panel.height(node.size[0]));
  addElement(node, "training", panel.element, panelHeight);
  const update = () => panel.show(runOf(node, training.run));
  chain(node, "onAdded", () => {
    training.addEventListener("change", update);
    training.join(panel);
    update();
  });
  chain(node, "onRemoved", () => {
    training.removeEventListener("change", update);
    training.leave(panel);
  });
  chain(node, "onExecuted", (output) => {
    panel.pictureElsewhere = Boolean(output?.images?.length);
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
