// Draws a run over its steps: what validation found of a prefix, with the goal, or the loss of fine-tuning.

import { element } from "../shared/dom.js";
import { percent, t } from "../shared/text.js";
import { GOAL } from "./verdict.js";

/** @typedef {import("./store.js").Run} Run */
/** @typedef {[step: number, value: number]} Point */

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
.chart .title .loss { color: var(--accent); }
.chart path.loss { stroke: var(--accent); }
`;

/** What `drawChart` draws, in the order of its title. */
export const SCORES = ["recognizability", "effects", "goal"];
/** What `drawLosses` draws. */
export const LOSSES = ["loss"];

/**
 * What `drawChart` or `drawLosses` draws in.
 * @param {string[]} kinds `SCORES` or `LOSSES`
 */
export function makeChart(kinds) {
  const drawing = document.createElementNS(SVG, "svg");
  drawing.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  drawing.setAttribute("preserveAspectRatio", "none");
  drawing.setAttribute("role", "img");
  for (const kind of [...kinds].reverse()) {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("class", kind);
    drawing.append(path);
  }
  const title = kinds.map((kind) => element("span", { class: kind }));
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
  const steps = stepsOf(run, scores.at(-1)?.[0] ?? 0);
  const most = Math.max(1, ...scores.flatMap(([, left, moved]) => [left, moved]));
  const path = (/** @type {string} */ kind, /** @type {Point[]} */ points) => drawLine(chart, kind, points, steps, most);
  path("goal", [[0, GOAL], [steps, GOAL]]);
  // Without a prefix all of people is left, and nothing is changed.
  path("recognizability", scores.length ? [[0, 1], ...scores.map(([step, left]) => /** @type {Point} */ ([step, left]))] : []);
  path("effects", scores.length ? [[0, 0], ...scores.map(([step, , moved]) => /** @type {Point} */ ([step, moved]))] : []);
  say(chart, {
    ".title .recognizability": t("training.recognizability"),
    ".title .effects": t("training.effects"),
    ".title .goal": t("training.goal", { percent: percent(GOAL) }),
    ".y span:first-child": percent(most),
    ".y span:last-child": percent(0),
    ".x span:last-child": isAtSteps(run) || scores.length ? String(steps) : "",
  });
  chart.querySelector("svg")?.setAttribute("aria-label", t("training.chart", { steps: scores.at(-1)?.[0] ?? 0 }));
}

/**
 * Draws the losses so far; no run is an empty chart.
 * @param {HTMLElement} chart of `makeChart`
 * @param {Run | null} run
 */
export function drawLosses(chart, run) {
  const losses = lossesOf(run);
  const last = losses.at(-1)?.[0] ?? 0;
  const steps = stepsOf(run, last);
  const most = Math.max(...losses.map(([, loss]) => loss), 0);
  drawLine(chart, "loss", losses, steps, most || 1);
  say(chart, {
    ".title .loss": t("finetuning.title"),
    ".y span:first-child": losses.length ? shortNumber(most) : "",
    ".y span:last-child": losses.length ? "0" : "",
    ".x span:last-child": isAtSteps(run) || losses.length ? String(steps) : "",
  });
  chart.querySelector("svg")?.setAttribute("aria-label", t("finetuning.chart", { step: last }));
}

/**
 * Steps and their mean losses; those without are left out.
 * @param {Run | null} run
 * @returns {Point[]}
 */
export function lossesOf(run) {
  const { steps = [], loss = [] } = run?.curve ?? {};
  return steps.flatMap((step, place) => {
    const value = loss[place] ?? null;
    return value === null ? [] : [/** @type {Point} */ ([step, value])];
  });
}

/**
 * A loss in few figures.
 * @param {number} value
 */
export function shortNumber(value) {
  return String(Number(value.toPrecision(3)));
}

/** @param {Run | null} run */
function isAtSteps(run) {
  return run !== null && ["learning", "face_region", "finished", "stopped"].includes(run.state);
}

/**
 * How many steps the chart is wide.
 * @param {Run | null} run
 * @param {number} last of those that something is known of
 */
function stepsOf(run, last) {
  return Math.max(run !== null && isAtSteps(run) ? run.of : 0, last, 1);
}

/**
 * @param {HTMLElement} chart
 * @param {string} kind
 * @param {Point[]} points
 * @param {number} steps at the right edge
 * @param {number} most at the upper edge
 */
function drawLine(chart, kind, points, steps, most) {
  const at = points.map(([step, value]) => `${((step / steps) * WIDTH).toFixed(1)} ${((1 - value / most) * HEIGHT).toFixed(1)}`);
  chart.querySelector(`path.${kind}`)?.setAttribute("d", at.length ? `M${at.join("L")}` : "");
}

/**
 * @param {HTMLElement} chart
 * @param {Record<string, string>} texts by place
 */
function say(chart, texts) {
  const ofBoth = { ".x span:first-child": "0", ".x span:nth-child(2)": t("training.steps") };
  for (const [place, text] of Object.entries({ ...texts, ...ofBoth })) {
    const found = chart.querySelector(place);
    if (found && found.textContent !== text) found.textContent = text;
  }
}
