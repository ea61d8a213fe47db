// Puts Anonymize Faces wherever a text encoder reaches a prompt, takes it out again, and tells what it cannot protect.

import { choosePrefix } from "../prefixes/choice.js";
import { app, fitHeight, toast } from "../shared/host.js";
import { noticesWanted, preferredStrength } from "../shared/settings.js";
import { t } from "../shared/text.js";
import { ACTIVE, above, clipInputs, graphs, isReroute, loaderFrom, protection, PROTECTOR, strengthOf, waysInto } from "./clip_source.js";
import { makeRoom, placeAfter, sizesAreSteady, takeRoomBack } from "./layout.js";
import { readersOfText } from "./own_encoders.js";

/** @typedef {import("../shared/host.js").LGraph} LGraph */
/** @typedef {import("../shared/host.js").LGraphNode} LGraphNode */

/** Take a text encoder as it comes from the checkpoint, and encode no prompt of the artist's. */
const WANT_IT_PLAIN = ["TrainAnonymizationPrefix", "EvaluateAnonymization", "CompareStrengths", "ProtectPhotos", "MeasurePhotoProtection", "FineTuneOnCaptions", "LearnExperts", "CLIPSave", "CheckpointSave", "SaveCheckpoint"];

/** Sockets that need no wire look so. */
const OPTIONAL_SHAPE = 7;

/** Puts Anonymize Faces after every text encoder that reaches a prompt, as one step to undo, and tells what that misses. */
export async function protectWorkflow() {
  await protectWith(await chooseAll(outlets()));
}

/**
 * Protects the workflow with one prefix: as `protectWorkflow`, and in the Anonymize Faces that are there already.
 * @param {string} prefix the name of its file
 */
export async function useInWorkflow(prefix) {
  // A file that was just saved is in no list yet.
  await app.refreshComboInNodes();
  const choices = outlets().map((outlet) => /** @type {[string, Choice]} */ ([keyOf(outlet), { prefix, fits: true, family: "" }]));
  await protectWith(new Map(choices), prefix);
}

/**
 * @param {Map<string, Choice>} choices by `keyOf`, for those that are put in
 * @param {string} [prefix] for those that are there already; without one they keep theirs
 */
async function protectWith(choices, prefix) {
  let [changed, without] = [0, 0];
  await asOneStep(() => {
    for (const node of all().filter((found) => found.type === PROTECTOR)) {
      changed += Number([wake(node), prefix !== undefined && set(node, "prefix", prefix)].includes(true));
    }
    for (const outlet of outlets()) {
      const choice = choices.get(keyOf(outlet));
      insert(outlet, choice);
      changed += 1;
      without += Number(!choice?.fits);
    }
  });
  const missed = [...unfit(choices), ...(await missing())];
  const uncertain = [...choices.values()].some((choice) => choice.fits && choice.uncertain);
  const count = changed - without;
  if (count && (noticesWanted() || uncertain || missed.length)) {
    const fitting = [...choices.values()].flatMap((choice) => (choice.fits ? [choice.prefix] : []));
    const chosen = prefix ?? [...new Set(fitting)].join(", ");
    const detail = [chosen ? t("protect.chosen", { prefix: chosen }) : t("protect.check"), uncertain ? t("prefix.unknown") : ""];
    toast(uncertain || missed.length ? "warn" : "success", t("protect.done", { count }), detail.filter(Boolean).join(" "));
  }
  for (const [summary, detail] of missed) toast("warn", summary, detail);
  if (changed || missed.length) return;
  const known = all().some((node) => node.type === PROTECTOR);
  toast("info", t(known ? "protect.already" : "protect.nothing"));
}

/**
 * A prefix for each output; where the server could not be asked, why.
 * @param {Outlet[]} found
 * @returns {Promise<Map<string, Choice>>} by `keyOf`
 */
async function chooseAll(found) {
  const chosen = found.map(async (outlet) => {
    const choice = choosePrefix(loaderFrom(outlet.node)).catch((error) => ({ prefix: "", fits: false, family: "", fault: error.message }));
    return /** @type {[string, Choice]} */ ([keyOf(outlet), await choice]);
  });
  return new Map(await Promise.all(chosen));
}

/**
 * What there is no prefix for: a headline and a remedy for each kind of it.
 * @param {Map<string, Choice>} choices
 * @returns {[summary: string, detail: string][]}
 */
function unfit(choices) {
  const said = new Map();
  for (const { fits, family, fault } of choices.values()) {
    if (fits) continue;
    if (fault) said.set(t("protect.unchosen"), fault);
    else said.set(family ? t("prefix.noneFor", { family }) : t("prefix.none"), t("protect.stops"));
  }
  return [...said];
}

/**
 * Lets the Anonymize Faces at a place of the graph in sight choose a prefix, or puts one there, as one step to undo.
 * @param {string} prefix the name of its file
 * @param {[x: number, y: number]} place
 */
export async function placeProtector(prefix, place) {
  // A file that was just saved is in no list yet.
  await app.refreshComboInNodes();
  const graph = /** @type {any} */ (app.canvas.graph);
  await asOneStep(() => {
    const there = graph.getNodeOnPos(...place);
    const node = there?.type === PROTECTOR ? there : window.LiteGraph.createNode(PROTECTOR);
    if (node !== there) {
      node.pos = [...place];
      graph.add(node);
      set(node, "strength", preferredStrength());
      fitHeight(node);
    }
    set(node, "prefix", prefix);
  });
}

/** Takes every Anonymize Faces out again and connects what it was between, as one step to undo. */
export async function unprotectWorkflow() {
  let removed = 0;
  await asOneStep(() => {
    for (const graph of graphs()) {
      for (const node of graph.nodes.filter((found) => found.type === PROTECTOR)) {
        remove(graph, node);
        removed += 1;
      }
    }
  });
  toast(removed ? "warn" : "info", t(removed ? "protect.undone" : "protect.none", { count: removed }));
}

/** @param {() => void} change */
async function asOneStep(change) {
  app.canvas.emitBeforeChange();
  try {
    change();
    // Queueing would do it, and the host would take that for a change of the artist's.
    for (const graph of graphs()) graph.updateExecutionOrder();
    await sizesAreSteady();
  } finally {
    app.canvas.emitAfterChange();
    app.canvas.setDirty(true, true);
  }
}

/** @returns {LGraphNode[]} of the workflow and its subgraphs */
function all() {
  return graphs().flatMap((graph) => graph.nodes);
}

/**
 * Lets an Anonymize Faces protect that is bypassed, muted or of strength 0.
 * @param {LGraphNode} node
 * @returns {boolean} whether it had to
 */
function wake(node) {
  if (protection(node) !== "plain") return false;
  node.mode = ACTIVE;
  const strength = strengthOf(node);
  if (strength && !(Number(strength.value) > 0)) {
    strength.value = 1;
    strength.callback?.(1, app.canvas, node);
  }
  return true;
}

/**
 * What stays unprotected, or may: a headline and a remedy for each kind of it.
 * @returns {Promise<[summary: string, detail: string][]>}
 */
async function missing() {
  /** @type {[string, string][]} */
  const told = [];
  const unseen = readers().filter(({ node, slot }) => node.mode === ACTIVE && waysInto(node, slot).has("unseen"));
  if (unseen.length) told.push([t("protect.unseen", { nodes: titles(unseen.map(({ node }) => node)) }), t("protect.unseenRemedy")]);
  try {
    const { own, services } = await readersOfText(all().filter((node) => node.mode === ACTIVE));
    if (own.length) told.push([t("protect.own", { nodes: titles(own) }), t("protect.ownRemedy")]);
    if (services.length) told.push([t("protect.services", { nodes: titles(services) }), t("protect.servicesRemedy")]);
  } catch (error) {
    told.push([t("protect.unasked"), /** @type {Error} */ (error).message]);
  }
  return told;
}

/** @param {LGraphNode[]} nodes */
function titles(nodes) {
  return [...new Set(nodes.map((node) => `${node.title || node.type} (${node.id})`))].join(", ");
}

/**
 * An output that hands a plain text encoder on.
 * @typedef {object} Outlet
 * @property {LGraphNode} node
 * @property {number} slot
 * @property {Reader[]} readers
 */

/**
 * The prefix that an output is protected with.
 * @typedef {object} Choice
 * @property {string} prefix
 * @property {boolean} fits
 * @property {boolean} [uncertain] whether that is only known when it runs
 * @property {string} family of the checkpoint; empty if it cannot be told
 * @property {string} [fault] why none could be chosen
 */

/**
 * An input.
 * @typedef {object} Reader
 * @property {LGraphNode} node
 * @property {number} slot
 */

/** @returns {Reader[]} the inputs through which prompts are encoded; such as need no text encoder only if they have one */
function readers() {
  return all()
    .filter(encodesPrompts)
    .flatMap((node) =>
      node.inputs.flatMap((input, slot) => {
        const needed = input.type === "CLIP" && input.shape !== OPTIONAL_SHAPE;
        return needed || (input.type === "CLIP" && above(node, slot)) ? [{ node, slot }] : [];
      }),
    );
}

/** @returns {Outlet[]} all that has to be protected */
function outlets() {
  /** @type {Map<string, Outlet>} */
  const found = new Map();
  for (const reader of readers()) findOutlets(reader, found, new Set());
  return [...found.values()];
}

/**
 * Goes up from an input to where all that comes is plain; where only some of it is, to the ways that are.
 * @param {Reader} reader
 * @param {Map<string, Outlet>} found
 * @param {Set<string>} passed
 */
function findOutlets(reader, found, passed) {
  const source = above(reader.node, reader.slot);
  const ways = waysInto(reader.node, reader.slot);
  const here = `${reader.node.graph?.id} ${reader.node.id} ${reader.slot}`;
  if (source === null || !ways.has("plain") || passed.has(here)) return;
  passed.add(here);
  if ("instances" in source) {
    for (const node of source.instances) findOutlets({ node, slot: source.slot }, found, passed);
    return;
  }
  const further = ways.size > 1 && source.node.mode === ACTIVE ? clipInputs(source.node) : [];
  if (further.length && !source.node.isSubgraphNode?.()) {
    for (const slot of further) findOutlets({ node: source.node, slot }, found, passed);
    return;
  }
  const key = keyOf(source);
  const outlet = found.get(key) ?? { ...source, readers: [] };
  if (!outlet.readers.some(({ node, slot }) => node === reader.node && slot === reader.slot)) outlet.readers.push(reader);
  found.set(key, outlet);
}

/** @param {{ node: LGraphNode, slot: number }} output */
function keyOf({ node, slot }) {
  return `${node.graph?.id} ${node.id} ${slot}`;
}

/**
 * Whether a node may encode prompts with the text encoder that it is given: all but those known not to, and those that
 * only hand it on.
 * @param {LGraphNode} node
 */
function encodesPrompts(node) {
  if (node.type === PROTECTOR || WANT_IT_PLAIN.includes(node.type) || isReroute(node) || node.isSubgraphNode?.()) return false;
  if (!node.inputs?.some((input) => input.type === "CLIP")) return false;
  const types = node.outputs?.map((output) => output.type) ?? [];
  return types.includes("CONDITIONING") || !types.includes("CLIP");
}

/**
 * @param {Outlet} outlet
 * @param {Choice | undefined} choice
 */
function insert(outlet, choice) {
  const node = window.LiteGraph.createNode(PROTECTOR);
  const { graph } = outlet.node;
  if (!node || !graph) throw new Error(`There is no node ${PROTECTOR}.`);
  placeAfter(node, outlet.node, outlet.slot);
  graph.add(node);
  set(node, "prefix", choice?.prefix);
  set(node, "strength", preferredStrength());
  fitHeight(node);
  node.properties.anonymizeFacesRoom = makeRoom(graph, node, outlet.node);
  outlet.node.connect(outlet.slot, node, 0);
  for (const reader of outlet.readers) node.connect(0, reader.node, reader.slot);
}

/**
 * @param {LGraphNode} node
 * @param {string} name of a setting
 * @param {unknown} value nothing leaves it as it is
 * @returns {boolean} whether it was another
 */
function set(node, name, value) {
  const widget = node.widgets?.find((found) => found.name === name);
  if (!widget || !value || widget.value === value) return false;
  widget.value = /** @type {any} */ (value);
  widget.callback?.(value, app.canvas, node);
  return true;
}

/**
 * @param {LGraph} graph
 * @param {LGraphNode} node
 */
function remove(graph, node) {
  const source = above(node, 0);
  for (const id of [...(node.outputs[0].links ?? [])]) {
    const link = graph.getLink(id);
    if (link && source) reconnect(graph, source, link);
  }
  const room = Number(node.properties.anonymizeFacesRoom ?? 0);
  const left = node.pos[0];
  graph.remove(node);
  takeRoomBack(graph, left, room);
}

/**
 * Connects what a node was connected to with what a wire of it led to; either may be an end of the subgraph.
 * @param {any} graph
 * @param {NonNullable<ReturnType<typeof above>>} source
 * @param {{ target_id: any, target_slot: number }} link
 */
function reconnect(graph, source, link) {
  const target = graph.getNodeById(link.target_id);
  const end = target?.inputs[link.target_slot];
  if ("instances" in source) {
    if (end) graph.inputs[source.slot].connect(end, target);
  } else if (end) source.node.connect(source.slot, target, link.target_slot);
  else graph.outputs[link.target_slot].connect(source.node.outputs[source.slot], source.node);
}
