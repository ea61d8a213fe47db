// Shows on a node what its last run said, in room that the node keeps for it.

import { element, island } from "../shared/dom.js";
import { addElement, api, app, chain, fixHeight, isFrom } from "../shared/host.js";
import { t } from "../shared/text.js";

/** @typedef {import("../shared/host.js").LGraphNode} LGraphNode */

/** Pixels that reports take, by the type of node; what is longer can be scrolled. @type {Record<string, number>} */
const HEIGHTS = {
  IdentityList: 52,
  DescribeFaces: 110,
  DescribePeople: 110,
  FineTuneOnCaptions: 110,
  LearnExperts: 150,
  SaveExperts: 44,
  MeasureExperts: 150,
  SaveAnonymizationPrefix: 44,
  MeasureAnonymization: 150,
  EvaluateAnonymization: 220,
  ProtectPhotos: 150,
  MeasurePhotoProtection: 220,
};
/** By which the server tells what a node says while it runs, as nodes/shared/interface.py sends it. */
const SAID = "anonymize_faces.said";
/** How often, and how far apart in milliseconds, to look for results that the host hands back. */
const LOOKS = 60;
const BETWEEN_LOOKS = 250;
const STYLES = `
:host { display: flex; padding: 2px; }
.report { flex: 1; overflow: auto; padding: 4px 6px; border-radius: 6px; background: var(--field); white-space: pre-wrap;
  overflow-wrap: anywhere; user-select: text; font: 11px/1.4 ui-monospace, Menlo, Consolas, monospace; }
.report.quiet { color: var(--quiet); font: inherit; font-style: italic; }
`;

/**
 * Puts room for a report on a node that was just made, if nodes of its type report.
 * @param {LGraphNode} node
 */
export function addReport(node) {
  const height = HEIGHTS[node.comfyClass ?? ""];
  if (height === undefined) return;
  const { outer, inner } = island("report", STYLES);
  const place = element("div", { class: "report", role: "status", tabindex: "0" });
  inner.append(place);
  fixHeight(outer, height);
  outer.addEventListener("keydown", (event) => event.stopPropagation());
  addElement(node, "report", outer, () => height);
  const show = (/** @type {string} */ text) => {
    place.textContent = text || t("report.none");
    place.classList.toggle("quiet", !text);
  };
  onReport(node, show);
  const heard = (/** @type {any} */ { detail }) => {
    if (isFrom(node, detail)) show(detail.text);
  };
  chain(node, "onAdded", () => api.addEventListener(/** @type {any} */ (SAID), heard));
  chain(node, "onRemoved", () => api.removeEventListener(/** @type {any} */ (SAID), heard));
}

/**
 * Calls with what a node's last run said, now and whenever it says something; empty while there is none.
 * @param {LGraphNode} node
 * @param {(text: string) => void} take
 */
export function onReport(node, take) {
  onOutput(node, (output) => take(textOf(output)));
}

/**
 * Calls with what a node's last run gave: null at first, then whenever there is something new, and when the node is made
 * anew. Undoing does that, and going back to a workflow that is open. Then the host hands its results back some time after
 * its nodes, which no event tells.
 * @param {LGraphNode} node
 * @param {(output: any) => void} take
 */
export function onOutput(node, take) {
  take(null);
  chain(node, "onExecuted", (output) => {
    take(output);
    setTimeout(() => keepOutput(node, output));
  });
  const look = (/** @type {number} */ times) => {
    const output = outputOf(node);
    if (output || times === 0) take(output);
    if (!output && node.graph && times < LOOKS) setTimeout(() => look(times + 1), BETWEEN_LOOKS);
  };
  for (const event of ["onAdded", "onConfigure"]) chain(node, event, () => queueMicrotask(() => look(0)));
}

/**
 * What the host keeps of a node's last run.
 * @param {LGraphNode} node
 * @returns {any}
 */
export function outputOf(node) {
  return app.nodeOutputs?.[keyOf(node)] ?? null;
}

/**
 * Has the host keep what a run gave for when one comes back to the workflow. Older frontends keep nothing of a run that is
 * over before they know its number, as that of a moment may be. What they keep stays with its workflow: a run may have begun
 * in another one than is shown now.
 * @param {LGraphNode} node
 * @param {any} output
 */
function keepOutput(node, output) {
  const { openWorkflows = [], activeWorkflow } = /** @type {any} */ (app.extensionManager).workflow ?? {};
  const keeps = (/** @type {any} */ workflow) => Object.values(workflow.changeTracker?.nodeOutputs ?? {}).includes(output);
  const tracker = (openWorkflows.find(keeps) ?? activeWorkflow)?.changeTracker;
  const key = keyOf(node);
  // Not a new one: it may be the host's own by now.
  if (key && tracker) (tracker.nodeOutputs ??= {})[key] = output;
}

/**
 * Under what name the host keeps what a node's last run gave; empty if the node is in no workflow.
 * @param {LGraphNode} node
 */
function keyOf(node) {
  const { graph } = node;
  if (!graph) return "";
  return graph === (app.rootGraph ?? app.graph) ? String(node.id) : `${graph.id}:${node.id}`;
}

/** @param {any} output */
function textOf(output) {
  return [output?.text ?? []].flat().join("\n");
}
