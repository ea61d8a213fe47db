// Shows a run: what it is at, how far, how well, and two ways to end it.

import { element, island } from "../shared/dom.js";
import { api } from "../shared/host.js";
import { ask } from "../shared/server.js";
import { duration, percent, t } from "../shared/text.js";
import { CURVE_STYLES, drawCurve, makeCurve } from "./curve.js";
import { goesOn } from "./store.js";

/** @typedef {import("./store.js").Run} Run */

const IDLE_HEIGHT = 26;
const FIGURES_HEIGHT = 232;
const MOST_PICTURE_HEIGHT = 320;
const STYLES = `
:host { display: flex; flex-direction: column; min-height: 26px; overflow: hidden; user-select: none; }
.idle { color: var(--quiet); font-style: italic; padding: 4px 2px; }
.body { display: flex; flex-direction: column; gap: 6px; min-height: 0; flex: 1; padding: 2px; }
.row { display: flex; align-items: baseline; justify-content: space-between; gap: 8px; }
.state { font-weight: 600; }
.left, .detail { color: var(--quiet); }
.message { color: var(--quiet); overflow-wrap: anywhere; max-height: 6em; overflow: auto; }
.failed .message, .failed .state { color: var(--alarm); }
progress { appearance: none; display: block; width: 100%; height: 6px; border: 0; border-radius: 3px;
  background: var(--field); overflow: hidden; flex: none; }
progress::-webkit-progress-bar { background: var(--field); }
progress::-webkit-progress-value { background: var(--accent); }
progress::-moz-progress-bar { background: var(--accent); }
figure { margin: 0; display: flex; gap: 6px; min-height: 0; flex: 1; }
figure img { min-width: 0; min-height: 0; max-height: ${MOST_PICTURE_HEIGHT}px; width: 100%; object-fit: contain; object-position: left top; }
figure .rows { display: flex; flex-direction: column; justify-content: space-around; color: var(--quiet);
  writing-mode: vertical-rl; transform: rotate(180deg); flex-flow: row-reverse; font-size: 10px; text-align: center; }
.buttons { display: flex; gap: 6px; flex: none; }
.buttons button { flex: 1; }
${CURVE_STYLES}
`;

/** What the Train node shows of a run. Knows nothing of the node. */
export class TrainingPanel {
  /** @type {Run | null} */
  #run = null;
  #resized = () => {};
  #stopping = false;
  #pictureElsewhere = false;
  /** Width by height of the picture; 0 while there is none. */
  #ratio = 0;
  #curve = makeCurve();
  #idle = element("div", { class: "idle" });
  #state = element("span", { class: "state", role: "status" });
  #progress = element("progress", {});
  #left = element("span", { class: "left" });
  #signal = element("span", { class: "signal" });
  #moved = element("span", { class: "detail moved" });
  #message = element("div", { class: "message" });
  #image = element("img", { draggable: "false", onload: () => this.#pictureLoaded() });
  #rows = element("div", { class: "rows", "aria-hidden": "true" }, element("span"), element("span"));
  #figure = element("figure", {}, this.#rows, this.#image);
  #legend = element("div", { class: "legend" }, element("span", { class: "identities" }), element("span", { class: "general" }));
  #stop = element("button", { type: "button", onclick: () => this.#stopAndKeep() });
  #cancel = element("button", { type: "button", onclick: () => this.#breakOff() });
  #buttons = element("div", { class: "buttons" }, this.#stop, this.#cancel);
  #body = element(
    "div",
    { class: "body" },
    element("div", { class: "row" }, this.#state, this.#left),
    this.#progress,
    element("div", { class: "row" }, this.#signal, this.#moved),
    this.#curve,
    this.#legend,
    this.#message,
    this.#figure,
    this.#buttons,
  );

  /** @param {() => void} resized called when `height` changed */
  constructor(resized) {
    const { outer, inner } = island("training", STYLES);
    this.element = outer;
    inner.append(this.#idle, this.#body);
    // What is pressed and scrolled here is not for the canvas.
    outer.addEventListener("pointerdown", (event) => event.stopPropagation());
    outer.addEventListener("keydown", (event) => event.stopPropagation());
    this.show(null);
    this.#resized = resized;
  }

  /**
   * Pixels it wants at a width.
   * @param {number} width
   */
  height(width) {
    if (this.#run === null) return IDLE_HEIGHT;
    const picture = this.#figure.hidden || !this.#ratio ? 0 : (width - 50) / this.#ratio;
    return FIGURES_HEIGHT + (this.#message.hidden ? 0 : 24) + Math.min(picture, MOST_PICTURE_HEIGHT);
  }

  /**
   * The node itself shows the last picture of a run that has ended.
   * @param {boolean} elsewhere
   */
  set pictureElsewhere(elsewhere) {
    this.#pictureElsewhere = elsewhere;
    this.show(this.#run);
  }

  /** @param {Run | null} run */
  show(run) {
    if (run?.state !== "learning") this.#stopping = false;
    this.#run = run;
    this.#idle.hidden = run !== null;
    this.#body.hidden = run === null;
    if (run === null) this.#idle.textContent = t("training.idle");
    else this.#fill(run);
    this.#resized();
  }

  /** @param {Run} run */
  #fill(run) {
    const on = goesOn(run);
    this.#body.className = `body ${run.state}`;
    setText(this.#state, t(`training.state.${run.state}`, { done: run.done, of: run.of }));
    setText(this.#left, run.seconds_left === null ? "" : t("training.left", { time: duration(run.seconds_left) }));
    this.#progress.max = Math.max(run.of, 1);
    this.#progress.value = run.done;
    this.#progress.setAttribute("aria-label", this.#state.textContent ?? "");
    const { score } = run;
    setText(
      this.#signal,
      score ? t("training.signal", { percent: percent(score.identity_signal_left) }) : t("training.unexamined"),
    );
    setText(this.#moved, score ? t("training.moved", { percent: percent(score.general_prompts_moved) }) : "");
    this.#signal.title = score ? t("training.examined", { step: score.step }) : "";
    drawCurve(this.#curve, run.curve);
    const [identities, general] = this.#legend.children;
    setText(identities, t("training.identities"));
    setText(general, t("training.general"));
    setText(this.#message, run.message);
    this.#message.hidden = !run.message;
    this.#fillPicture(run.picture, on);
    setText(this.#stop, t(this.#stopping ? "training.stopping" : "training.stop"));
    this.#stop.title = t("training.stopTip");
    this.#stop.disabled = run.state !== "learning" || this.#stopping;
    setText(this.#cancel, t("training.cancel"));
    this.#cancel.title = t("training.cancelTip");
    this.#buttons.hidden = !on;
  }

  /**
   * @param {Run["picture"]} picture
   * @param {boolean} on whether the run goes on
   */
  #fillPicture(picture, on) {
    this.#figure.hidden = picture === null || (!on && this.#pictureElsewhere);
    if (picture === null) {
      this.#ratio = 0;
      return;
    }
    const source = api.apiURL(`/anonymize_faces/training/picture?number=${picture.number}&of=${this.#run?.prompt_id}`);
    if (this.#image.getAttribute("src") !== source) this.#image.src = source;
    const kind = picture.held_out ? "training.heldOut" : "training.learnedOn";
    this.#image.alt = t(kind, { people: picture.people.join(", ") });
    this.#image.title = this.#image.alt;
    const [without, having] = this.#rows.children;
    setText(without, t("training.without"));
    setText(having, t("training.with"));
  }

  #pictureLoaded() {
    this.#ratio = this.#image.naturalWidth / this.#image.naturalHeight;
    this.#resized();
  }

  async #stopAndKeep() {
    this.#stopping = true;
    this.show(this.#run);
    try {
      await ask("stop", { prompt_id: this.#run?.prompt_id });
    } catch (error) {
      this.#stopping = false;
      this.show(this.#run && { ...this.#run, message: String(/** @type {Error} */ (error).message) });
    }
  }

  async #breakOff() {
    this.#cancel.disabled = true;
    try {
      await api.interrupt(this.#run?.prompt_id ?? null);
    } catch {
      this.show(this.#run && { ...this.#run, message: t("server.away") });
    } finally {
      this.#cancel.disabled = false;
    }
  }
}

/**
 * Leaves what is there alone if it is the same, for the sake of screen readers.
 * @param {Element} place
 * @param {string} text
 */
function setText(place, text) {
  if (place.textContent !== text) place.textContent = text;
}
