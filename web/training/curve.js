// Draws the losses: two curves over the steps, on a logarithmic scale.

import { t } from "../shared/text.js";

/** @typedef {import("./store.js").Curve} Curve */

const WIDTH = 320;
const HEIGHT = 90;
const REACH = 2;
const SVG = "http://www.w3.org/2000/svg";

export const CURVE_STYLES = `
.curve { display: block; width: 100%; height: 90px; background: var(--field); border-radius: 6px; }
.curve path { fill: none; stroke-width: 1.6; vector-effect: non-scaling-stroke; stroke-linejoin: round; }
.identities { stroke: var(--identities); color: var(--identities); }
.general { stroke: var(--general); color: var(--general); stroke-dasharray: 5 3; }
:host { --identities: #e8775d; --general: #5ba0dc; }
.legend { display: flex; gap: 14px; color: var(--quiet); }
.legend span::before {
  content: ""; display: inline-block; width: 18px; margin-right: 5px; vertical-align: middle;
  border-top: 2px solid currentColor;
}
.legend .general::before { border-top-style: dashed; }
`;

/** @returns {SVGSVGElement} an empty drawing for `drawCurve` */
export function makeCurve() {
  const drawing = document.createElementNS(SVG, "svg");
  drawing.setAttribute("class", "curve");
  drawing.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  drawing.setAttribute("preserveAspectRatio", "none");
  drawing.setAttribute("role", "img");
  for (const kind of ["general", "identities"]) {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("class", kind);
    drawing.append(path);
  }
  return drawing;
}

/**
 * Draws the losses so far, from edge to edge.
 * @param {SVGSVGElement} drawing
 * @param {Curve} curve
 */
export function drawCurve(drawing, curve) {
  const last = curve.steps.at(-1) ?? 0;
  const series = {
    identities: smooth(curve.identities),
    general: smooth(curve.general),
  };
  const all = [...series.identities, ...series.general].filter((value) => value !== null);
  const low = Math.min(...all);
  const room = Math.max(Math.max(...all) - low, 0.2);
  for (const [kind, values] of Object.entries(series)) {
    const points = values.flatMap((value, index) => {
      if (value === null) return [];
      const x = (curve.steps[index] / last) * WIDTH;
      const y = HEIGHT - 6 - ((value - low) / room) * (HEIGHT - 12);
      return [`${x.toFixed(1)} ${y.toFixed(1)}`];
    });
    drawing.querySelector(`path.${kind}`)?.setAttribute("d", points.length ? `M${points.join("L")}` : "");
  }
  drawing.setAttribute("aria-label", t("training.curve", { steps: last }));
}

/**
 * Running means of logarithms; gaps stay gaps.
 * @param {(number | null)[]} losses
 * @returns {(number | null)[]}
 */
function smooth(losses) {
  const logs = losses.map((loss) => (loss !== null && loss > 0 ? Math.log10(loss) : null));
  return logs.map((log, index) => {
    if (log === null) return null;
    const near = /** @type {number[]} */ (
      logs.slice(Math.max(0, index - REACH), index + REACH + 1).filter((value) => value !== null)
    );
    return near.reduce((sum, value) => sum + value, 0) / near.length;
  });
}
