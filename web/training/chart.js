// Draws what validation found of a run: how much of people is left, and side effects, over the steps, with the goal.

import { element } from "../shared/dom.js";
import { percent, t } from "../shared/text.js";
import { GOAL } from "./verdict.js";

/** @typedef {import("./store.js").Run} Run */

const WIDTH = 320;
const HEIGHT = 100;
const SVG = "http://www.w3.org/2000/svg";

/** Pixels, the title and the axes included. */
export const CHART_HEIGHT = 154;
export const CHART_STYLES = `
.chart { display: grid; grid-template-columns: auto 1fr; gap: 2px 5px; height: ${CHART_HEIGHT}px; flex: none; }
.chart .title { grid-column: 1 / -1; display: flex; gap: 12px; white-space: nowrap; overflow: hidden; }
.chart .title span::before { content: ""; display: inline-block; width: 16px; margin-right: 4px; vertical-align: middle;
  border-top: 2px solid currentColor; }
.chart .title .recognizability { color: var(--recognizability); }
.chart .title .effects { color: var(--effects); }
.chart .title .effects::before { border-top-style: dashed; }
.chart .title .goal { color: var(--good); }
.chart .y, .chart .x { display: flex; justify-content: space-between; color: var(--quiet); font-size: 10px; }
.chart .y { flex-direction: column; text-align: right; }
.chart .x { grid-column: 2; }
.chart svg { width: 100%; height: ${HEIGHT}px; background: var(--field); border-radius: 4px; overflow: visible; }
.chart path { fill: none; stroke-width: 1.8; vector-effect: non-scaling-stroke; stroke-linejoin: round; stroke-linecap: round; }
.chart path.recognizability { stroke: var(--recognizability); }
.chart path.effects { stroke: var(--effects); stroke-dasharray: 5 3; }
.chart path.goal { stroke: var(--good); stroke-width: 1; }
`;

/** What `drawChart` draws in. */
export function makeChart() {
  const drawing = document.createElementNS(SVG, "svg");
  drawing.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  drawing.setAttribute("preserveAspectRatio", "none");
  drawing.setAttribute("role", "img");
  for (const kind of ["goal", "effects", "recognizability"]) {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("class", kind);
    drawing.append(path);
  }
  const title = ["recognizability", "effects", "goal"].map((kind) => element("span", { class: kind }));
  return element(
    "div",
    { class: "chart" },
    element("div", { class: "title" }, ...title),
    element("div", { class: "y" }, element("span"), element("span")),
    drawing,
    element("div", { class: "x" }, element("span"), element("span"), element("span")),
  );
}

/**
 * Draws the scores so far; no run is an empty chart.
 * @param {HTMLElement} chart of `makeChart`
 * @param {Run | null} run
 */
export function drawChart(chart, run) {
  const scores = [...(run?.scores ?? [])].sort(([one], [other]) => one - other);
  const learning = run !== null && ["learning", "face_region", "finished", "stopped"].includes(run.state);
  const steps = Math.max(learning ? run.of : 0, scores.at(-1)?.[0] ?? 0, 1);
  const most = Math.max(1, ...scores.flatMap(([, left, moved]) => [left, moved]));
  const path = (/** @type {string} */ kind, /** @type {[number, number][]} */ points) => {
    const at = points.map(([step, share]) => `${((step / steps) * WIDTH).toFixed(1)} ${((1 - share / most) * HEIGHT).toFixed(1)}`);
    chart.querySelector(`path.${kind}`)?.setAttribute("d", at.length ? `M${at.join("L")}` : "");
  };
  path("goal", [[0, GOAL], [steps, GOAL]]);
  // Without a prefix all of people is left, and nothing is changed.
  path("recognizability", scores.length ? [[0, 1], ...scores.map(([step, left]) => /** @type {[number, number]} */ ([step, left]))] : []);
  path("effects", scores.length ? [[0, 0], ...scores.map(([step, , moved]) => /** @type {[number, number]} */ ([step, moved]))] : []);
  const said = [
    [".title .recognizability", t("training.recognizability")],
    [".title .effects", t("training.effects")],
    [".title .goal", t("training.goal", { percent: percent(GOAL) })],
    [".y span:first-child", percent(most)],
    [".y span:last-child", percent(0)],
    [".x span:first-child", "0"],
    [".x span:nth-child(2)", t("training.steps")],
    [".x span:last-child", learning || scores.length ? String(steps) : ""],
  ];
  for (const [place, text] of said) {
    const found = chart.querySelector(place);
    if (found && found.textContent !== text) found.textContent = text;
  }
  chart.querySelector("svg")?.setAttribute("aria-label", t("training.chart", { steps: scores.at(-1)?.[0] ?? 0 }));
}
