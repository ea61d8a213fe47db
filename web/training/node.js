// Puts the panel on nodes that learn, and tells it of that node's runs.

import { library } from "../prefixes/library.js";
import { outputOf } from "../results/report.js";
import { addElement, chain, fixHeight, isFrom } from "../shared/host.js";
import { t } from "../shared/text.js";
import { useInWorkflow } from "../workflow/protect.js";
import { TrainingPanel } from "./panel.js";
import { goesOn, training } from "./store.js";

/** @typedef {import("../shared/host.js").LGraphNode} LGraphNode */
/** @typedef {import("./store.js").Run} Run */

/** Pixels in which four people have room. */
const WIDTH = 420;

/**
 * Puts the panel on a node that learns a prefix and was just made.
 * @param {LGraphNode} node
 */
export function addTrainingPanel(node) {
  const panel = new TrainingPanel(async () => useInWorkflow(await savedBy(node)));
  addPanel(node, panel, () => TrainingPanel.height(node.size[0]));
}

/**
 * Puts the panel on a node that fine-tunes and was just made.
 * @param {LGraphNode} node
 * @param {boolean} canStop whether what was learned so far can be kept
 */
export function addFinetuningPanel(node, canStop) {
  addPanel(node, new TrainingPanel(null, canStop), TrainingPanel.finetuningHeight);
}

/**
 * @param {LGraphNode} node
 * @param {TrainingPanel} panel
 * @param {() => number} height that it takes
 */
function addPanel(node, panel, height) {
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
 * The file that a Save Anonymization Prefix behind a node has saved.
 * @param {LGraphNode} node
 * @returns {Promise<string>} its name
 * @throws {Error} there is none
 */
async function savedBy(node) {
  const links = node.outputs?.[0]?.links ?? [];
  const targets = links.map((id) => node.graph?.getNodeById(node.graph.getLink(id)?.target_id ?? -1));
  const saving = targets.find((target) => target?.type === "SaveAnonymizationPrefix");
  const path = saving ? [outputOf(saving)?.text ?? []].flat().join("").replaceAll("\\", "/") : "";
  const found = path ? (await library.list()).find((entry) => path.endsWith(`/${entry.name}`)) : undefined;
  if (!found) throw new Error(t("training.unsaved"));
  return found.name;
}

/**
 * The run, if it is this node's.
 * @param {LGraphNode} node
 * @param {Run | null} run
 */
function runOf(node, run) {
  return run !== null && isFrom(node, run) ? run : null;
}
