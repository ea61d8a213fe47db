// Shows on the node, before the queue comes to it, whether a prefix fits.

import { element, island } from "../shared/dom.js";
import { onReport } from "../results/report.js";
import { addElement, api, app, chain, fixHeight, toast } from "../shared/host.js";
import { t } from "../shared/text.js";
import { loaderOf, PROTECTOR } from "../workflow/clip_source.js";
import { hints } from "./choice.js";
import { library } from "./library.js";
import { followPrompts, linesOf, promptsRead } from "./prompts.js";
import { learnedOn, scored } from "./words.js";

/** @typedef {import("../shared/host.js").LGraphNode} LGraphNode */

/** Pixels for what there is to say, kept whatever that is: nothing else has to move for it. */
const HEIGHT = 132;
/** Pixels in which most of that takes one line. */
const WIDTH = 330;
const STYLES = `
:host { display: flex; flex-direction: column; gap: 2px; overflow: auto; padding: 2px; }
.quiet { color: var(--quiet); }
.alarm { color: var(--alarm); font-weight: 600; }
`;

/** What a list without files shows in their place has no suffix. As prefix/files/library.py has the newest of some. */
const NAMES_A_FILE = /(\.\w+| \(newest\))$/;

/** Keeps all nodes up to date with what is chosen, connected and there; call once. */
export function followPrefixes() {
  const refresh = () => {
    const root = /** @type {any} */ (app.rootGraph ?? app.graph);
    for (const graph of [root, ...root.subgraphs.values()]) {
      for (const node of graph.nodes) if (node.type === PROTECTOR) node.anonymizeFacesRefresh?.();
    }
  };
  followPrompts();
  api.addEventListener("graphChanged", refresh);
  promptsRead.addEventListener("change", refresh);
  library.addEventListener("change", () => {
    known.clear();
    generation += 1;
    refresh();
  });
  // What ran may have saved a prefix.
  api.addEventListener("execution_success", () => library.dispatchEvent(new Event("change")));
}

/** @type {Map<string, Promise<any>>} */
const known = new Map();
let generation = 0;

/**
 * Asks once for the same thing.
 * @template Answer
 * @param {string} key
 * @param {() => Promise<Answer>} question
 * @returns {Promise<Answer>}
 */
function once(key, question) {
  const answer = known.get(key) ?? question();
  known.set(key, answer);
  answer.catch(() => known.delete(key));
  return answer;
}

/**
 * Puts what there is to know of the chosen prefix on a node that was just made.
 * @param {LGraphNode} node
 */
export function addPrefixInfo(node) {
  const { outer, inner } = island("prefix", STYLES);
  const lines = element("div", { role: "status" });
  const prompts = element("div", { class: "prompts", role: "status" });
  const report = element("div", { class: "quiet report" });
  inner.append(lines, prompts, report);
  fixHeight(outer, HEIGHT);
  node.size[0] = Math.max(node.size[0], WIDTH);
  let key = "";
  let warning = "";

  /** @param {[kind: string, text: string][]} said */
  const show = (said) => {
    warning = said.filter(([kind]) => kind === "alarm").map(([, text]) => text).join(" ");
    lines.replaceChildren(...linesIn(said));
  };
  const refresh = async () => {
    prompts.replaceChildren(...linesIn(linesOf(node)));
    const state = stateOf(node);
    const asked = JSON.stringify([generation, state]);
    if (asked === key) return;
    key = asked;
    const said = await describe(state);
    if (key === asked) show(said);
  };
  addElement(node, "prefix_info", outer, () => HEIGHT).beforeQueued = () => {
    if (warning && node.mode === 0) toast("warn", node.title, warning);
  };
  /** @type {any} */ (node).anonymizeFacesRefresh = () => refresh();
  onReport(node, (text) => {
    report.textContent = text;
  });
  for (const event of ["onAdded", "onConnectionsChange", "onConfigure"]) chain(node, event, () => queueMicrotask(refresh));
  for (const choice of node.widgets ?? []) {
    if (choice.name === "prefix" || choice.name === "strength") chain(choice, "callback", () => refresh());
  }
}

/** @param {[kind: string, text: string][]} said */
function linesIn(said) {
  return said.map(([kind, text]) => element("div", { class: kind }, text));
}

/**
 * @typedef {object} State
 * @property {string} prefix
 * @property {number} strength
 * @property {boolean} learned whether a prefix is connected, which counts instead
 * @property {boolean} connected
 * @property {string} checkpoint
 * @property {string} family as far as the loader's settings tell
 */

/**
 * @param {LGraphNode} node
 * @returns {State}
 */
function stateOf(node) {
  const value = (/** @type {LGraphNode | null} */ of, /** @type {string} */ name) =>
    of?.widgets?.find((widget) => widget.name === name)?.value;
  const loader = node.graph ? loaderOf(node) : null;
  return {
    prefix: String(value(node, "prefix") ?? ""),
    strength: Number(value(node, "strength") ?? 1),
    learned: node.inputs?.find((input) => input.name === "learned_prefix")?.link != null,
    connected: loader !== null,
    ...hints(loader),
  };
}

/**
 * @param {State} state
 * @returns {Promise<[kind: string, text: string][]>}
 */
async function describe(state) {
  /** @type {[string, string][]} */
  const said = state.strength === 0 ? [["alarm", t("prefix.off")]] : [];
  if (state.learned) return [...said, ["quiet", t("prefix.connected")]];
  try {
    const family = state.family || (state.checkpoint && (await once(`c ${state.checkpoint}`, () => library.familyOf(state.checkpoint))));
    if (!NAMES_A_FILE.test(state.prefix)) {
      const entries = family ? await once(`l ${family}`, () => library.list(family)) : [];
      const none = family && !entries.some((/** @type {any} */ entry) => entry.fits);
      return [...said, ["alarm", none ? t("prefix.noneFor", { family }) : t("prefix.none")]];
    }
    const entry = await once(`p ${state.prefix} ${family}`, () => library.details(state.prefix, family || ""));
    if (entry.fault) return [...said, ["alarm", entry.fault]];
    said.push(["", learnedOn(entry)], ["quiet", scored(entry)]);
    const values = { learned: entry.family, checkpoint: family };
    if (entry.fits === false) said.push(["alarm", t("prefix.misfit", values)]);
    else if (entry.fits) said.push(["quiet", t("prefix.fits", values)]);
    else if (state.connected) said.push(["quiet", t("prefix.unknown")]);
    return said;
  } catch (error) {
    return [...said, ["alarm", /** @type {Error} */ (error).message]];
  }
}
