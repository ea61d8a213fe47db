// Shows on a node two of the ways in which it has drawn, each picture of one over that of the other, with a slider.

import { element, island } from "../shared/dom.js";
import { addElement, api, fixHeight } from "../shared/host.js";
import { t } from "../shared/text.js";
import { onOutput } from "./report.js";

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
.cells { position: absolute; inset: 0; display: grid; gap: 4px; grid-auto-rows: minmax(0, 1fr); }
.cell { position: relative; min-width: 0; }
.cell img { position: absolute; inset: 0; width: 100%; height: 100%; object-fit: contain; }
.cell img:first-child { clip-path: inset(0 calc(100% - var(--share)) 0 0); }
.cell img:nth-child(2) { clip-path: inset(0 0 0 var(--share)); }
.cell::after { content: ""; position: absolute; top: 0; bottom: 0; left: var(--share); width: 2px; margin-left: -1px;
  background: var(--accent); }
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
  /** By column. @type {Picture[][]} */
  let columns = [];
  const cells = element("div", { class: "cells" });
  const range = element("input", { type: "range", min: 0, max: 100, step: 0.5, value: 50, oninput: () => move() });
  const empty = element("div", { class: "empty" });
  const pair = element("div", { class: "pair" }, cells, range, empty);
  const ends = /** @type {const} */ (["compare.left", "compare.right"]).map((end) => element("select", { "aria-label": t(end), onchange: () => show() }));
  inner.append(element("div", { class: "ends" }, ...ends), pair);
  fixHeight(outer, HEIGHT);
  for (const event of ["pointerdown", "keydown"]) outer.addEventListener(event, (happened) => happened.stopPropagation());

  const move = () => pair.style.setProperty("--share", `${range.value}%`);
  const show = () => {
    const shown = ends.map((end) => ({ label: end.selectedOptions[0]?.textContent ?? "", pictures: columns[Number(end.value)] ?? [] }));
    const count = shown[0]?.pictures.length ?? 0;
    cells.style.gridTemplateColumns = `repeat(${Math.ceil(Math.sqrt(count)) || 1}, minmax(0, 1fr))`;
    cells.replaceChildren(
      ...Array.from({ length: count }, (_, place) => element("div", { class: "cell" }, ...shown.map(({ label, pictures }) => image(pictures[place], label)))),
    );
  };
  /** @param {any} output */
  const take = (output) => {
    const labels = [output?.labels ?? []].flat();
    /** @type {Picture[]} */
    const pictures = [output?.compared ?? []].flat();
    const each = Math.floor(pictures.length / labels.length) || 0;
    columns = each ? labels.map((_, number) => pictures.slice(number * each, (number + 1) * each)) : [];
    const none = columns.length === 0;
    for (const [index, choice] of ends.entries()) {
      const before = choice.selectedOptions[0]?.textContent;
      choice.replaceChildren(...columns.map((_, number) => element("option", { value: number }, String(labels[number]))));
      const kept = labels.indexOf(before);
      choice.value = String(kept >= 0 ? kept : index * (columns.length - 1));
      choice.disabled = none;
    }
    range.setAttribute("aria-label", t("compare.slider"));
    range.hidden = none;
    empty.hidden = !none;
    empty.textContent = t("compare.none");
    show();
  };
  addElement(node, "slider", outer, () => HEIGHT);
  move();
  onOutput(node, take);
}

/**
 * @param {Picture | undefined} picture
 * @param {string} label
 */
function image(picture, label) {
  const source = picture ? api.apiURL(`/view?${new URLSearchParams({ ...picture })}`) : "";
  return element("img", { src: source, alt: label, draggable: "false" });
}
