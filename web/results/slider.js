// Shows on a node two of the ways in which it has drawn, one over the other, with a slider between them.

import { element, island } from "../shared/dom.js";
import { addElement, api, chain, fixHeight } from "../shared/host.js";
import { t } from "../shared/text.js";
import { outputOf } from "./report.js";

/** @typedef {import("../shared/host.js").LGraphNode} LGraphNode */
/** @typedef {{ filename: string, subfolder: string, type: string }} Picture */

/** Pixels that it takes, whatever it shows. */
const HEIGHT = 360;
const STYLES = `
:host { display: flex; flex-direction: column; gap: 6px; padding: 2px; user-select: none; }
.ends { display: flex; justify-content: space-between; gap: 8px; flex: none; height: 24px; }
select { flex: 0 1 45%; min-width: 0; color: inherit; font: inherit; background: var(--field); border: 1px solid var(--line);
  border-radius: 6px; padding: 2px 4px; }
.pair { --share: 50%; position: relative; flex: 1; min-height: 0; border-radius: 6px; background: var(--field); overflow: hidden; }
.pair img { position: absolute; inset: 0; width: 100%; height: 100%; object-fit: contain; image-rendering: auto; }
.pair img:first-child { clip-path: inset(0 calc(100% - var(--share)) 0 0); }
.pair img:nth-child(2) { clip-path: inset(0 0 0 var(--share)); }
.line { position: absolute; top: 0; bottom: 0; left: var(--share); width: 2px; margin-left: -1px; background: var(--accent); pointer-events: none; }
.pair input { position: absolute; inset: 0; width: 100%; height: 100%; margin: 0; opacity: 0; cursor: ew-resize; }
.pair:has(input:focus-visible) { outline: 2px solid var(--accent); outline-offset: 1px; }
.empty { position: absolute; inset: 0; display: grid; place-items: center; color: var(--quiet); font-style: italic; }
`;

/**
 * Puts the slider on a node that was just made.
 * @param {LGraphNode} node
 */
export function addSlider(node) {
  const { outer, inner } = island("slider", STYLES);
  /** @type {Picture[]} */
  let pictures = [];
  const [left, right] = [element("img", { draggable: "false" }), element("img", { draggable: "false" })];
  const range = element("input", { type: "range", min: 0, max: 100, step: 0.5, value: 50, oninput: () => move() });
  const empty = element("div", { class: "empty" });
  const line = element("div", { class: "line" });
  const pair = element("div", { class: "pair" }, left, right, line, range, empty);
  const ends = /** @type {const} */ (["compare.left", "compare.right"]).map((end) => element("select", { "aria-label": t(end), onchange: () => show() }));
  inner.append(element("div", { class: "ends" }, ...ends), pair);
  fixHeight(outer, HEIGHT);
  for (const event of ["pointerdown", "keydown"]) outer.addEventListener(event, (happened) => happened.stopPropagation());

  const move = () => pair.style.setProperty("--share", `${range.value}%`);
  const show = () => {
    for (const [index, image] of [left, right].entries()) {
      const chosen = Number(ends[index]?.value ?? 0);
      const picture = pictures[chosen];
      image.hidden = picture === undefined;
      image.alt = ends[index]?.selectedOptions[0]?.textContent ?? "";
      if (picture) image.src = api.apiURL(`/view?${new URLSearchParams({ ...picture })}`);
      else image.removeAttribute("src");
    }
  };
  /** @param {any} output */
  const take = (output) => {
    const labels = [output?.labels ?? []].flat();
    pictures = [output?.compared ?? []].flat().slice(0, labels.length);
    const none = pictures.length === 0;
    for (const [index, choice] of ends.entries()) {
      const before = choice.selectedOptions[0]?.textContent;
      choice.replaceChildren(...pictures.map((_, number) => element("option", { value: number }, String(labels[number]))));
      const kept = labels.indexOf(before);
      choice.value = String(kept >= 0 ? kept : index * (pictures.length - 1));
      choice.disabled = none;
    }
    range.setAttribute("aria-label", t("compare.slider"));
    range.hidden = line.hidden = none;
    empty.hidden = !none;
    empty.textContent = t("compare.none");
    show();
  };
  addElement(node, "slider", outer, () => HEIGHT);
  move();
  take(null);
  chain(node, "onExecuted", take);
  // Undoing, or going back to an open workflow, makes its nodes anew.
  for (const event of ["onAdded", "onConfigure"]) chain(node, event, () => queueMicrotask(() => take(outputOf(node))));
}
