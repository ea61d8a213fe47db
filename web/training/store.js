// Asks the server for the run, once for all panels, and only while somebody looks.

import { connectAnew, fetchResults } from "../shared/connection.js";
import { api } from "../shared/host.js";
import { ask } from "../shared/server.js";

/**
 * What a run takes, as trainer/plan.py has it.
 * @typedef {{ people: number, pictures: number, prompts: number, evaluations: number, seconds: number, kept_bytes: number, disk_bytes: number }} Plan
 */

/**
 * What fine-tuning takes, as finetuning/progress.py has it.
 * @typedef {{ steps: number, parameters: number, seconds: number, kept_bytes: number, state_bytes: number }} FinetuningPlan
 */

/**
 * A run as nodes/server/training_routes.py describes it.
 * @typedef {object} Run
 * @property {string | null} prompt_id
 * @property {string | null} node_id
 * @property {string | null} workflow_id
 * @property {"prefix" | "fine-tuning"} [kind]
 * @property {"preparing" | "drawing" | "text_warm_up" | "encoding_prompts" | "learning" | "face_region" | "finished" | "stopped" | "cancelled" | "failed"} state
 * @property {string} message
 * @property {string[]} [notes]
 * @property {number} done
 * @property {number} of
 * @property {number | null} seconds_left
 * @property {Plan | FinetuningPlan | null} plan
 * @property {{ steps: number[], loss?: (number | null)[] }} [curve]
 * @property {[step: number, recognizability: number, effects: number][]} scores
 * @property {{ step: number, identity_signal_left: number, general_prompts_moved: number } | null} score
 * @property {{ number: number, people: string[], held_out: boolean } | null} picture
 */

const EVENT = "anonymize_faces.training";
const RENEW_MILLISECONDS = 5000;
/** Times in a row that news was asked for which should have come by itself. */
const LOST_AFTER = 2;
const LAST_MILLISECONDS = 1500;
const GOING_ON = ["preparing", "drawing", "text_warm_up", "encoding_prompts", "learning", "face_region"];

/** @param {Run | null} run */
export function goesOn(run) {
  return run !== null && GOING_ON.includes(run.state);
}

/** The run on the server. Watches it while somebody looks and the server has something to do; else it is silent. */
class TrainingStore extends EventTarget {
  /** @type {Run | null} */
  run = null;
  #viewers = new Set();
  #queued = 0;
  /** Of the server process that was heard last, and how far its story was. */
  #server = "";
  #version = -1;
  /** How often in a row there was news that had not come by itself. */
  #missed = 0;
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #timer;

  /** Listens to the host; call once. */
  start() {
    api.addEventListener(/** @type {any} */ (EVENT), (/** @type {any} */ event) => {
      this.#missed = 0;
      this.#take(event.detail);
    });
    api.addEventListener("status", (/** @type {any} */ event) => {
      this.#queued = event.detail?.exec_info?.queue_remaining ?? 0;
      this.#decide();
    });
    api.addEventListener("reconnected", () => this.#look());
    document.addEventListener("visibilitychange", () => (document.hidden ? this.#decide() : this.#look()));
  }

  /** @param {object} viewer something that shows the run */
  join(viewer) {
    this.#viewers.add(viewer);
    if (this.#viewers.size === 1) this.#look();
  }

  /** @param {object} viewer */
  leave(viewer) {
    this.#viewers.delete(viewer);
    this.#decide();
  }

  /** Asks how things stand, once. */
  async #look() {
    if (!this.#viewers.size || document.hidden) return;
    try {
      this.#queued = (await (await api.fetchApi("/prompt")).json()).exec_info.queue_remaining;
      this.#take(await ask("training"));
    } catch {
      return; // The server is away; the host says so, and calls again when it is back.
    }
    this.#decide();
  }

  /** Begins or ends watching, as there is something to see and somebody to see it. */
  #decide() {
    const wanted = this.#viewers.size > 0 && !document.hidden && (this.#queued > 0 || goesOn(this.run));
    if (wanted === (this.#timer !== undefined)) return;
    if (wanted) {
      this.#timer = setInterval(() => this.#watch(), RENEW_MILLISECONDS);
      this.#watch();
    } else {
      clearInterval(this.#timer);
      this.#timer = undefined;
      ask("training/leave", { client_id: api.clientId }).catch(() => {});
    }
  }

  async #watch() {
    try {
      const before = goesOn(this.run);
      const news = this.#take(await ask("training/watch", { client_id: api.clientId }));
      this.#missed = news && before ? this.#missed + 1 : 0;
    } catch {
      return; // As above.
    }
    if (this.#missed >= LOST_AFTER) this.#comeBack();
    // The last news may be on its way.
    else if (this.#missed > 0 && !goesOn(this.run)) setTimeout(() => this.#missed > 0 && this.#comeBack(), LAST_MILLISECONDS);
    this.#decide();
  }

  /** The server has lost this page: nothing comes by itself any more. */
  #comeBack() {
    this.#missed = 0;
    connectAnew();
    const prompt = this.run?.prompt_id;
    // Results come when the prompt is done; if that was missed too, they are fetched.
    if (!prompt || goesOn(this.run)) return;
    api.addEventListener("reconnected", () => fetchResults(prompt).catch(() => {}), { once: true });
  }

  /**
   * @param {{ server?: string, version: number, run: Run | null }} snapshot
   * @returns {boolean} whether it is news
   */
  #take({ server = "", version, run }) {
    // What was asked for before may come after what was sent since.
    if (server === this.#server && version <= this.#version) return false;
    this.#server = server;
    this.#version = version;
    const ended = goesOn(this.run) && !goesOn(run);
    this.run = run;
    this.dispatchEvent(new Event("change"));
    if (ended) this.#decide();
    return true;
  }
}

export const training = new TrainingStore();
