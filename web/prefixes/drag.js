// Lets a prefix be dragged onto the canvas: onto an Anonymize Faces, which then chooses it, or beside, where one is made.

import { app } from "../shared/host.js";
import { placeProtector } from "../workflow/protect.js";

/**
 * @param {HTMLElement} handle what is dragged
 * @param {string} name of the prefix file
 */
export function dragOntoCanvas(handle, name) {
  /** @param {DragEvent} event */
  const over = (event) => {
    if (!isOnCanvas(event)) return;
    // The host would look for files, and find none.
    event.preventDefault();
    event.stopPropagation();
    if (event.dataTransfer) event.dataTransfer.dropEffect = "copy";
  };
  /** @param {DragEvent} event */
  const drop = (event) => {
    if (!isOnCanvas(event)) return;
    over(event);
    const [x, y] = app.clientPosToCanvasPos([event.clientX, event.clientY]);
    placeProtector(name, [x, y]);
  };
  handle.addEventListener("dragstart", (event) => {
    event.dataTransfer?.setData("text/plain", name);
    if (event.dataTransfer) event.dataTransfer.effectAllowed = "copy";
    document.addEventListener("dragover", over, true);
    document.addEventListener("drop", drop, true);
  });
  handle.addEventListener("dragend", () => {
    document.removeEventListener("dragover", over, true);
    document.removeEventListener("drop", drop, true);
  });
}

/**
 * Whether it happens over the canvas or what lies on it, and not over the tab.
 * @param {DragEvent} event
 */
function isOnCanvas(event) {
  const { left, right, top, bottom } = app.canvas.canvas.getBoundingClientRect();
  const within = event.clientX >= left && event.clientX <= right && event.clientY >= top && event.clientY <= bottom;
  const over = /** @type {Element | null} */ (event.target instanceof Element ? event.target : null);
  return within && !over?.closest(".side-bar-panel, .anonymize-faces-library, .comfyui-menu, [role=dialog]");
}
