// Shows a run: two ways to end it, how far it is and a chart; of a prefix how well it protects, and people, too.

import { element, island } from "../shared/dom.js";
import { api } from "../shared/host.js";
import { ask } from "../shared/server.js";
import { duration, percent, t } from "../shared/text.js";
import { CHART_HEIGHT, CHART_STYLES, LOSSES, SCORES, drawChart, drawLosses, lossesOf, makeChart, shortNumber } from "./chart.js";
import { goesOn } from "./store.js";
import { verdict } from "./verdict.js";

/** @typedef {import("./store.js").Run} Run */

/** Pixels of all but the pictures and the chart. */
const WORDS_HEIGHT = 176;
/** Pixels of the line of figures, and of the space around the pictures, which fine-tuning lacks. */
const FIGURES_HEIGHT = 29;
/** Pixels of the room for pictures, at least and at most. */
const PICTURES = [150, 420];
/** Pixels beside the pictures: the names of the rows, and the panel's edges. */
const BESIDE = 50;
const STYLES = `
:host { display: flex; flex-direction: column; overflow: hidden; user-select: none; }
.body { display: flex; flex-direction: column; gap: 6px; min-height: 0; flex: 1; padding: 2px; }
.row { display: flex; align-items: baseline; justify-content: space-between; gap: 8px; min-height: 17px; flex: none; }
.verdict { font-size: 13px; font-weight: 600; height: 20px; flex: none; white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
.verdict.good { color: var(--good); }
.verdict.fair { color: var(--fair); }
.verdict.poor, .failed .message, .failed .state { color: var(--alarm); }
.verdict.none { color: var(--quiet); font-style: italic; font-weight: 400; }
.state { font-weight: 600; }
.left, .message { color: var(--quiet); }
.message { overflow-wrap: anywhere; white-space: pre-line; height: 34px; overflow: auto; flex: none; user-select: text; }
.figure { cursor: help; text-decoration: underline dotted var(--quiet); text-underline-offset: 3px; }
progress { appearance: none; display: block; width: 100%; height: 6px; border: 0; border-radius: 3px;
  background: var(--field); overflow: hidden; flex: none; }
progress::-webkit-progress-bar { background: var(--field); }
progress::-webkit-progress-value { background: var(--accent); }
progress::-moz-progress-bar { background: var(--accent); }
.pictures { container-type: size; flex: 1; min-height: 0; border-radius: 6px; background: var(--field); padding: 4px; }
figure { --ratio: 2; margin: 0; display: grid; grid-template: 16px auto / 14px 1fr; gap: 2px;
  width: min(100%, calc(var(--ratio) * (100cqh - 18px) + 16px)); }
figure img { grid-area: 2 / 2; min-width: 0; width: 100%; aspect-ratio: var(--ratio); }
figure .people { grid-area: 1 / 2; display: grid; grid-auto-flow: column; grid-auto-columns: minmax(0, 1fr); font-size: 11px; }
figure .people span { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; text-align: center; }
figure .rows { grid-area: 2 / 1; display: flex; flex-flow: row-reverse; justify-content: space-around; color: var(--quiet);
  writing-mode: vertical-rl; transform: rotate(180deg); font-size: 10px; text-align: center; }
.buttons { display: flex; gap: 6px; height: 28px; flex: none; }
.buttons button { flex: 1; }
${CHART_STYLES}
`;

/** What a node that learns shows of a run, in the same room whatever there is to show. Knows nothing of the node. */
export class TrainingPanel {
  /** @type {Run | null} */
  #run = null;
  #stopping = false;
  #chart;
  #verdict = element("div", { class: "verdict", role: "status" });
  #state = element("span", { class: "state", role: "status" });
  #progress = element("progress", {});
  #left = element("span", { class: "left" });
  #signal = element("span", { class: "signal" });
  #moved = element("span", { class: "moved" });
  #message = element("div", { class: "message" });
  #image = element("img", { draggable: "false", onload: () => this.#pictureLoaded() });
  #people = element("div", { class: "people", "aria-hidden": "true" });
  #rows = element("div", { class: "rows", "aria-hidden": "true" }, element("span"), element("span"));
  #figure = element("figure", {}, this.#people, this.#rows, this.#image);
  #stop = element("button", { type: "button", onclick: () => this.#stopAndKeep() });
  #cancel = element("button", { type: "button", onclick: () => this.#breakOff() });
  #use = element("button", { type: "button", onclick: () => this.#useSaved() });
  #body;

  /**
   * @param {(() => Promise<void>) | null} use protects the workflow with what the run has saved; throws why it cannot.
   *   None of a node that fine-tunes: what it learns is not examined on the way, and is no prefix.
   * @param {boolean} [canStop] whether what was learned so far can be kept
   */
  constructor(use, canStop = true) {
    this.use = use;
    this.#chart = makeChart(use ? SCORES : LOSSES);
    this.#body = element(
      "div",
      { class: "body" },
      this.#verdict,
      element("div", { class: "buttons" }, ...(canStop ? [this.#stop] : []), this.#cancel, ...(use ? [this.#use] : [])),
      element("div", { class: "row" }, this.#state, this.#left),
      this.#progress,
      ...(use ? [element("div", { class: "row" }, this.#signal, this.#moved)] : []),
      this.#message,
      ...(use ? [element("div", { class: "pictures" }, this.#figure)] : []),
      this.#chart,
    );
    const { outer, inner } = island("training", STYLES);
    this.element = outer;
    inner.append(this.#body);
    // What is pressed and scrolled here is not for the canvas.
    outer.addEventListener("pointerdown", (event) => event.stopPropagation());
    outer.addEventListener("keydown", (event) => event.stopPropagation());
    this.show(null);
  }

  /** Pixels it takes on a node that fine-tunes, whatever it shows. */
  static finetuningHeight() {
    return WORDS_HEIGHT - FIGURES_HEIGHT + CHART_HEIGHT;
  }

  /**
   * Pixels it takes at a width, whatever it shows.
   * @param {number} width
   */
  static height(width) {
    const [least, most] = PICTURES;
    return WORDS_HEIGHT + CHART_HEIGHT + Math.round(Math.min(Math.max((width - BESIDE) / 2, least), most));
  }

  /** @param {Run | null} run */
  show(run) {
    if (run?.state !== "learning") this.#stopping = false;
    this.#run = run;
    const on = goesOn(run);
    this.#body.className = `body ${run?.state ?? "idle"}`;
    if (this.use) this.#fillVerdict(run, on);
    else this.#fillLoss(run);
    setText(this.#state, run ? t(`training.state.${run.state}`, { done: run.done, of: run.of }) : "");
    setText(this.#left, run?.seconds_left == null ? "" : t("training.left", { time: duration(run.seconds_left) }));
    // A run that ends early because nothing becomes better has nothing left to do.
    this.#progress.max = Math.max((run?.state === "finished" ? run.done : run?.of) ?? 1, 1);
    this.#progress.value = run?.done ?? 0;
    this.#progress.setAttribute("aria-label", this.#state.textContent ?? "");
    this.#fillFigures(run?.score ?? null);
    const notes = [on ? planned(run?.plan) : "", ...(run?.notes ?? [])].filter(Boolean);
    setText(this.#message, run?.message || notes.join("\n"));
    this.#fillPicture(run?.picture ?? null);
    (this.use ? drawChart : drawLosses)(this.#chart, run);
    setText(this.#stop, t(this.#stopping ? "training.stopping" : "training.stop"));
    this.#stop.title = t(this.use ? "training.stopTip" : "finetuning.stopTip");
    this.#stop.disabled = run?.state !== "learning" || this.#stopping;
    setText(this.#cancel, t("training.cancel"));
    this.#cancel.title = t("training.cancelTip");
    this.#cancel.disabled = !on;
    const kept = this.use !== null && run !== null && ["finished", "stopped"].includes(run.state);
    setText(this.#use, t("library.use"));
    this.#use.title = t("library.useTip");
    this.#use.hidden = !kept;
    this.#stop.hidden = this.#cancel.hidden = kept;
  }

  /**
   * @param {Run | null} run
   * @param {boolean} on whether it goes on
   */
  #fillVerdict(run, on) {
    const said = run?.score ? verdict(run.score, on) : null;
    setText(this.#verdict, said?.text ?? (run ? t("training.unexamined") : t("training.idle")));
    this.#verdict.className = `verdict ${said?.grade ?? "none"}`;
    // The words have one line, which some languages fill.
    this.#verdict.title = [this.#verdict.textContent, run?.score ? t("training.examined", { step: run.score.step }) : ""].filter(Boolean).join("\n");
  }

  /** @param {Run | null} run */
  #fillLoss(run) {
    const losses = lossesOf(run).map(([, loss]) => shortNumber(loss));
    const [first, last] = [losses[0], losses.at(-1)];
    const said = first && last ? t("finetuning.loss", { first, last }) : run ? "" : t("training.idle");
    setText(this.#verdict, said);
    this.#verdict.className = `verdict ${losses.length ? "loss" : "none"}`;
    this.#verdict.title = losses.length ? t("finetuning.lossTip") : "";
  }

  /** @param {Run["score"]} score */
  #fillFigures(score) {
    setText(this.#signal, score ? t("training.signal", { percent: percent(score.identity_signal_left) }) : "");
    setText(this.#moved, score ? t("training.moved", { percent: percent(score.general_prompts_moved) }) : "");
    this.#signal.title = t("training.signalTip");
    this.#moved.title = t("training.movedTip");
    for (const figure of [this.#signal, this.#moved]) figure.classList.toggle("figure", score !== null);
  }

  /** @param {Run["picture"]} picture */
  #fillPicture(picture) {
    this.#figure.hidden = picture === null;
    if (picture === null) {
      // Else it would show for a moment when the next run has drawn its own.
      this.#image.removeAttribute("src");
      return;
    }
    const source = api.apiURL(`/anonymize_faces/training/picture?number=${picture.number}&of=${this.#run?.prompt_id}`);
    if (this.#image.getAttribute("src") !== source) this.#image.src = source;
    const kind = picture.held_out ? "training.heldOut" : "training.learnedOn";
    this.#image.alt = t(kind, { people: picture.people.join(", ") });
    this.#image.title = this.#image.alt;
    const names = [...this.#people.children].map((name) => name.textContent);
    if (names.join("\n") !== picture.people.join("\n")) {
      this.#people.replaceChildren(...picture.people.map((name) => element("span", { title: name }, name)));
    }
    const [without, having] = this.#rows.children;
    setText(without, t("training.without"));
    setText(having, t("training.with"));
  }

  /** Gives the picture and its labels the room's height, or its width where that is too much. */
  #pictureLoaded() {
    this.#figure.style.setProperty("--ratio", `${this.#image.naturalWidth / this.#image.naturalHeight}`);
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

  async #useSaved() {
    try {
      await this.use?.();
    } catch (error) {
      setText(this.#message, /** @type {Error} */ (error).message);
    }
  }

  async #breakOff() {
    this.#cancel.disabled = true;
    try {
      await api.interrupt(this.#run?.prompt_id ?? null);
    } catch {
      this.show(this.#run && { ...this.#run, message: t("server.away") });
    } finally {
      this.#cancel.disabled = !goesOn(this.#run);
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

/**
 * What the run takes, in a line.
 * @param {import("./store.js").Run["plan"] | undefined} plan
 */
function planned(plan) {
  if (!plan) return "";
  const number = (/** @type {number} */ value) => value.toLocaleString();
  const gigabytes = (/** @type {number} */ bytes) => (Math.ceil((10 * bytes) / 2 ** 30) / 10).toFixed(1);
  if ("parameters" in plan) {
    const memory = gigabytes(plan.kept_bytes + plan.state_bytes);
    return t("finetuning.plan", { steps: number(plan.steps), parameters: number(plan.parameters), memory });
  }
  const { people, pictures, evaluations } = plan;
  const memory = gigabytes(plan.kept_bytes);
  return t("training.plan", { people, pictures: number(pictures), evaluations: number(evaluations), memory });
}
