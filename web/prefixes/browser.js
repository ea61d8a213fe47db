// Shows the tab in the sidebar in which prefix files are looked after.

import { element, island } from "../shared/dom.js";
import { api, app } from "../shared/host.js";
import { locale, t } from "../shared/text.js";
import { verdict } from "../training/verdict.js";
import { graphs } from "../workflow/clip_source.js";
import { useInWorkflow } from "../workflow/protect.js";
import { familyOfFirst, hints } from "./choice.js";
import { dragOntoCanvas } from "./drag.js";
import { library } from "./library.js";
import { learnedOn, scored } from "./words.js";

/** @typedef {import("./library.js").PrefixEntry} PrefixEntry */

const SUFFIXES = ".safetensors,.pt,.bin";
const TOLD_IN_WORDS = ["identity_signal_left", "general_prompts_moved", "best_step"];
const STYLES = `
:host { display: flex; flex-direction: column; height: 100%; font-size: 13px; position: relative; }
header { display: flex; gap: 6px; align-items: center; padding: 10px; }
h2 { font-size: 14px; margin: 0; flex: 1; }
input[type=search] { margin: 0 10px 8px; padding: 5px 8px; color: inherit; font: inherit; background: var(--field);
  border: 1px solid var(--line); border-radius: 6px; }
.fitting { display: flex; gap: 6px; align-items: center; margin: 0 10px 8px; color: var(--quiet); cursor: pointer; }
.alarm { color: var(--alarm); padding: 0 10px 8px; overflow-wrap: anywhere; }
.alarm:empty, .answers:empty { display: none; }
.answers { padding: 0 10px 8px; max-height: 40%; overflow: auto; flex: none; overflow-wrap: anywhere; }
.answers .alarm { padding: 0; }
.list { flex: 1; overflow: auto; padding: 0 10px 10px; }
.empty { color: var(--quiet); padding: 20px 10px; text-align: center; }
details { border: 1px solid var(--line); border-radius: 8px; margin-bottom: 6px; }
summary { cursor: pointer; padding: 7px 9px; overflow-wrap: anywhere; border-radius: 8px; display: flex; gap: 9px;
  align-items: center; list-style: none; }
summary::-webkit-details-marker { display: none; }
summary:hover { background: var(--field); }
summary img { width: 112px; flex: none; border-radius: 4px; background: var(--field); }
summary .words { flex: 1; min-width: 0; }
.good { color: var(--good); }
.fair { color: var(--fair); }
.poor { color: var(--alarm); }
.notes { display: -webkit-box !important; -webkit-line-clamp: 2; -webkit-box-orient: vertical; overflow: hidden; }
summary small { display: block; color: var(--quiet); font-size: 11px; }
summary small.alarm { color: var(--alarm); padding: 0; }
dl { display: grid; grid-template-columns: auto 1fr; gap: 2px 10px; margin: 0; padding: 4px 9px; font-size: 12px; }
dt { color: var(--quiet); }
dd { margin: 0; overflow-wrap: anywhere; }
.buttons { display: flex; flex-wrap: wrap; gap: 6px; padding: 7px 9px 9px; }
.drop { position: absolute; inset: 6px; display: none; place-items: center; pointer-events: none; z-index: 1;
  border: 2px dashed var(--accent); border-radius: 10px; background: color-mix(in srgb, var(--field) 85%, transparent); }
:host(.over) .drop { display: grid; }
`;

/**
 * Fills the tab.
 * @param {HTMLElement} place
 * @returns {() => void} empties it
 */
export function showBrowser(place) {
  const { outer, inner } = island("library", STYLES);
  const list = element("div", { class: "list" });
  const alarm = element("div", { class: "alarm", role: "alert" });
  const answers = element("div", { class: "answers", role: "alert" });
  const picker = element("input", { type: "file", accept: SUFFIXES, multiple: true, hidden: true, onchange: () => take(picker.files) });
  const filter = element("input", { type: "search", placeholder: t("library.search"), "aria-label": t("library.search"), oninput: () => draw() });
  const fitting = element("input", { type: "checkbox", onchange: () => draw() });
  const choice = element("label", { class: "fitting", hidden: true }, fitting, element("span"));
  /** @type {PrefixEntry[]} */
  let entries = [];

  /** @param {() => Promise<unknown>} work */
  const attempt = async (work) => {
    alarm.textContent = "";
    try {
      await work();
    } catch (error) {
      alarm.textContent = /** @type {Error} */ (error).message;
    }
  };
  const draw = () => {
    const words = filter.value.toLowerCase();
    const shown = entries.filter((entry) => `${entry.name} ${entry.family}`.toLowerCase().includes(words)).filter((entry) => !fitting.checked || choice.hidden || entry.fits);
    list.replaceChildren(...shown.map((entry) => card(entry, attempt)));
    const none = fitting.checked && !choice.hidden ? "library.noneFits" : "library.none";
    if (!shown.length) list.append(element("div", { class: "empty" }, t(entries.length ? none : "library.empty")));
  };
  const all = () => graphs().flatMap((graph) => graph.nodes);
  const loaders = () => JSON.stringify(all().map(hints).filter(({ family, checkpoint }) => family || checkpoint));
  let checkpoints = "";
  const load = async () => {
    checkpoints = loaders();
    const family = await familyOfFirst(all());
    entries = await library.list(family);
    choice.hidden = !family;
    /** @type {HTMLElement} */ (choice.lastElementChild).textContent = t("library.fitting", { family });
    draw();
  };
  /** @param {FileList | null | undefined} files */
  const take = async (files) => {
    answers.replaceChildren();
    for (const file of files ?? []) {
      const said = await library.take(file).then(
        (entry) => element("div", {}, t("library.taken", { name: entry.name })),
        (error) => element("div", { class: "alarm" }, `${file.name}: ${error.message}`),
      );
      answers.append(said);
    }
    picker.value = "";
  };
  /** @param {DragEvent} event */
  const hold = (event) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    // Else the host would take the file for a workflow.
    event.preventDefault();
    event.stopPropagation();
    outer.classList.toggle("over", event.type === "dragenter" || event.type === "dragover");
  };
  for (const event of ["dragenter", "dragover", "dragleave", "drop"]) outer.addEventListener(event, (happened) => hold(/** @type {DragEvent} */ (happened)));
  outer.addEventListener("drop", (event) => take(event.dataTransfer?.files));
  const reload = () => attempt(load);
  library.addEventListener("change", reload);
  // Else what is open would close at every stroke.
  const follow = () => void (loaders() !== checkpoints && reload());
  api.addEventListener("graphChanged", follow);
  inner.append(
    element(
      "header",
      {},
      element("h2", {}, t("library.title")),
      element("button", { type: "button", onclick: () => picker.click() }, t("library.import")),
      element("button", { type: "button", title: t("library.reload"), "aria-label": t("library.reload"), onclick: reload }, "↻"),
    ),
    filter,
    choice,
    alarm,
    answers,
    list,
    picker,
    element("div", { class: "drop", "aria-hidden": "true" }, t("library.drop")),
  );
  place.append(outer);
  reload();
  return () => {
    library.removeEventListener("change", reload);
    api.removeEventListener("graphChanged", follow);
    outer.remove();
  };
}

/**
 * @param {PrefixEntry} entry
 * @param {(work: () => Promise<unknown>) => Promise<void>} attempt
 */
function card(entry, attempt) {
  const { dialog } = app.extensionManager;
  const rename = async () => {
    const bare = entry.name.replace(/\.\w+$/, "");
    const to = await dialog.prompt({ title: t("library.rename"), message: t("library.newName"), defaultValue: bare });
    if (to && to !== bare) await attempt(() => library.rename(entry.name, to));
  };
  const remove = async () => {
    const sure = await dialog.confirm({ title: t("library.delete"), message: t("library.sure", { name: entry.name }), type: "delete" });
    if (sure) await attempt(() => library.remove(entry.name));
  };
  const save = () => element("a", { href: library.address(entry.name), download: "" }).click();
  const summary = element(
    "summary",
    { title: entry.fault ? "" : t("library.drag"), draggable: entry.fault ? "false" : "true" },
    ...picture(entry),
    element("div", { class: "words" }, entry.name.replace(/\.safetensors$/, ""), ...about(entry)),
  );
  if (!entry.fault) dragOntoCanvas(summary, entry.name);
  return element(
    "details",
    {},
    summary,
    element("dl", {}, ...facts(entry).flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)])),
    element(
      "div",
      { class: "buttons" },
      element("button", { type: "button", title: t("library.useTip"), onclick: () => attempt(() => useInWorkflow(entry.name)), disabled: entry.fault !== null }, t("library.use")),
      element("button", { type: "button", onclick: rename }, t("library.rename")),
      element("button", { type: "button", onclick: save }, t("library.export")),
      element("button", { type: "button", onclick: remove }, t("library.delete")),
    ),
  );
}

/** @param {PrefixEntry} entry */
function picture(entry) {
  const source = library.picture(entry);
  // One that is of another prefix, or is none, is not there for the server.
  const gone = (/** @type {Event} */ event) => /** @type {Element} */ (event.target).remove();
  return source ? [element("img", { src: source, alt: t("library.picture"), title: t("library.picture"), draggable: "false", onerror: gone })] : [];
}

/**
 * Family, grade in words, and notes; or what is wrong with the file.
 * @param {PrefixEntry} entry
 */
function about(entry) {
  if (entry.fault) return [element("small", { class: "alarm" }, entry.fault)];
  const { identity_signal_left: left, general_prompts_moved: moved = 0 } = entry.scores;
  const said = left === undefined ? { grade: "", text: t("prefix.unscored") } : verdict({ identity_signal_left: left, general_prompts_moved: moved }, false);
  const told = [element("small", {}, entry.family || t("prefix.unknownFamily")), element("small", { class: said.grade }, said.text)];
  return entry.notes ? [...told, element("small", { class: "notes" }, entry.notes)] : told;
}

/**
 * @param {string} date as a file has it, which may be no date
 * @param {Intl.DateTimeFormat} format
 */
function dated(date, format) {
  const moment = new Date(date);
  return Number.isNaN(moment.getTime()) ? date : format.format(moment);
}

/**
 * @param {PrefixEntry} entry
 * @returns {[string, string][]}
 */
function facts(entry) {
  const when = new Intl.DateTimeFormat(locale(), { dateStyle: "medium", timeStyle: "short" });
  const number = new Intl.NumberFormat(locale(), { maximumFractionDigits: 3 });
  /** @type {[string, string][]} */
  const found = [[t("library.file"), `${entry.name} (${number.format(Math.ceil(entry.bytes / 1024))} KiB)`]];
  if (entry.fault) return found;
  found.push([t("library.learned"), learnedOn(entry)], [t("library.scored"), scored(entry)]);
  const widths = Object.entries(entry.encoders).map(([key, width]) => `${key} (${width})`);
  found.push([t("library.encoders"), widths.join(", ")]);
  if (entry.notes) found.push([t("library.notes"), entry.notes]);
  if (entry.title) found.push([t("library.name"), entry.title]);
  if (entry.date) found.push([t("library.date"), dated(entry.date, when)]);
  for (const [name, value] of Object.entries(entry.scores)) {
    if (!TOLD_IN_WORDS.includes(name)) found.push([name, number.format(value)]);
  }
  return found;
}
