// Reaches for the host: its application, its API and its nodes.

// @ts-ignore The host serves this file; here it is not.
import { api as hostApi } from "../../../scripts/api.js";
// @ts-ignore
import { app as hostApp } from "../../../scripts/app.js";

/** @typedef {import("@comfyorg/comfyui-frontend-types").ComfyApp} ComfyApp */
/** @typedef {import("@comfyorg/comfyui-frontend-types").ComfyApi} ComfyApi */
/** @typedef {ComfyApp["graph"]} LGraph */
/** @typedef {NonNullable<ReturnType<LGraph["getNodeById"]>>} LGraphNode */

/** Pixels around our elements on nodes. */
const MARGIN = 10;
/** As pointer events name it: the one that changed, and among those held. */
const MIDDLE = 1;
const MIDDLE_HELD = 4;

/** @type {ComfyApp} */
export const app = hostApp;

/** @type {ComfyApi} */
export const api = hostApi;

/**
 * Says something in the host's own way.
 * @param {"success" | "info" | "warn" | "error"} severity
 * @param {string} summary
 * @param {string} [detail]
 */
export function toast(severity, summary, detail) {
  const life = severity === "error" || severity === "warn" ? 10000 : 4000;
  app.extensionManager.toast.add({ severity, summary, detail, life });
}

/**
 * Calls what the host set, and then ours.
 * @param {any} object
 * @param {string} method
 * @param {(this: any, ...values: any[]) => void} after
 */
export function chain(object, method, after) {
  const before = object[method];
  object[method] = function (/** @type {any[]} */ ...values) {
    const result = before?.apply(this, values);
    after.apply(this, values);
    return result;
  };
}

/**
 * Whether what the server tells of a node is of this one.
 * @param {LGraphNode} node
 * @param {{ node_id: string | null, workflow_id: string | null }} told `workflow_id` is null where it is not known
 */
export function isFrom(node, { node_id, workflow_id }) {
  if (!node.graph) return false;
  // Inside a subgraph the server's id is a path, as 7:3.
  const sameNode = node_id?.split(":").at(-1) === String(node.id);
  return sameNode && [null, app.rootGraph?.id, app.graph.id].includes(workflow_id);
}

/**
 * Puts an element of ours on a node; it is saved nowhere and sent to nobody.
 * @param {LGraphNode} node
 * @param {string} name
 * @param {HTMLElement} content
 * @param {() => number} height that it needs; room beyond is for the node's own text fields
 * @returns {{ serialize?: boolean, beforeQueued?: () => void }} the widget
 */
export function addElement(node, name, content, height) {
  const whole = () => height() + 2 * MARGIN;
  const options = { serialize: false, hideOnZoom: false, margin: MARGIN, getMinHeight: whole, getMaxHeight: whole };
  const widget = /** @type {any} */ (node).addDOMWidget(name, `anonymize_faces_${name}`, content, options);
  widget.serialize = false;
  handOnToCanvas(content);
  // New nodes, and those of older workflows, know nothing of what stands on them.
  for (const event of ["onAdded", "onConfigure"]) chain(node, event, () => queueMicrotask(() => fitHeight(node)));
  return widget;
}

/**
 * Keeps an element of ours as high as it is, in either rendering, whatever there is in it.
 * @param {HTMLElement} content
 * @param {number} height
 */
export function fixHeight(content, height) {
  for (const kind of /** @type {const} */ (["height", "minHeight", "maxHeight"])) content.style[kind] = `${height}px`;
}

/**
 * Wheel and middle button are the canvas's, as over the host's own text fields. (In Vue nodes the host sees to it.)
 * @param {HTMLElement} content
 */
function handOnToCanvas(content) {
  content.addEventListener("wheel", (event) => {
    const ours = event.composedPath().slice(0, event.composedPath().indexOf(content) + 1);
    if (window.LiteGraph.vueNodesMode || (!event.ctrlKey && ours.some(scrolls))) return;
    event.preventDefault();
    app.canvas.processMouseWheel(event);
  });
  content.addEventListener("pointerdown", (event) => {
    if (!window.LiteGraph.vueNodesMode && event.button === MIDDLE) app.canvas.processMouseDown(event);
  });
  content.addEventListener("pointermove", (event) => {
    if (!window.LiteGraph.vueNodesMode && event.buttons & MIDDLE_HELD) app.canvas.processMouseMove(event);
  });
  content.addEventListener("pointerup", (event) => {
    if (!window.LiteGraph.vueNodesMode && event.button === MIDDLE) app.canvas.processMouseUp(event);
  });
}

/** @param {EventTarget} part */
function scrolls(part) {
  return part instanceof Element && part.scrollHeight > part.clientHeight && getComputedStyle(part).overflowY === "auto";
}

/**
 * What nodes were given, and what they had before.
 * @type {WeakMap<LGraphNode, { before: number, given: number }>}
 */
const heights = new WeakMap();

/**
 * Makes room for what a node shows, and takes back what it no longer needs of that.
 * @param {LGraphNode} node
 */
export function fitHeight(node) {
  if (!node.graph) return;
  const [width, height] = node.size;
  const ours = heights.get(node);
  // Who has resized the node since then wants it so.
  const before = ours?.given === height ? ours.before : height;
  const wanted = Math.max(before, node.computeSize()[1]);
  if (wanted !== height) {
    node.setSize([width, wanted]);
    heights.set(node, { before, given: node.size[1] });
  }
  node.graph.setDirtyCanvas(true, true);
}
