// Folds the advanced settings of a node in the classic rendering, as "Nodes 2.0" does by itself.

import { fitHeight } from "./host.js";
import { t } from "./text.js";

/** @typedef {import("./host.js").LGraphNode} LGraphNode */

/** Pixels of a setting, and those that the host leaves between settings. */
const HEIGHT = 20;
const BETWEEN = 4;

/**
 * Shows the advanced settings of a node that was just made behind a button.
 * @param {LGraphNode} node
 */
export function foldAdvanced(node) {
  const advanced = (node.widgets ?? []).filter((widget) => /** @type {any} */ (widget.options)?.advanced);
  if (!advanced.length) return;
  for (const widget of advanced) {
    // Older frontends keep it as an option alone.
    widget.advanced = true;
    // The host leaves them out of the drawing, but not of the space.
    widget.computeSize = (width = 0) => (node.showAdvanced ? [width, HEIGHT] : [0, -BETWEEN]);
  }
  const label = () => t(node.showAdvanced ? "advanced.hide" : "advanced.show");
  const button = node.addWidget("button", "advanced_settings", "", () => {
    const before = node.computeSize()[1];
    node.showAdvanced = !node.showAdvanced;
    node.setSize([node.size[0], Math.max(node.size[1] + node.computeSize()[1] - before, node.computeSize()[1])]);
    fitHeight(node);
  });
  button.serialize = false;
  Object.assign(button.options, { serialize: false, canvasOnly: true });
  // A workflow that is opened says whether they are shown.
  Object.defineProperty(button, "label", { configurable: true, get: label, set: () => {} });
  node.setSize([node.size[0], node.computeSize()[1]]);
}
