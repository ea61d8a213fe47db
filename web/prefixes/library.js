// Holds the list of prefixes that the tab and the nodes share.

import { api, app } from "../shared/host.js";
import { answerTo, ask } from "../shared/server.js";
import { t } from "../shared/text.js";

/**
 * A prefix file as docs/routes.md describes it.
 * @typedef {object} PrefixEntry
 * @property {string} name
 * @property {number} bytes
 * @property {string} modified
 * @property {string | null} fault
 * @property {number} vectors
 * @property {Record<string, number>} encoders
 * @property {string} family
 * @property {string} title
 * @property {number} identities
 * @property {number} steps
 * @property {string} date
 * @property {Record<string, number>} scores
 * @property {boolean | null} fits
 * @property {string} [notes] the first of them
 * @property {string} [picture] changes when the picture beside the file does; empty if there is none
 * @property {{ notes: string, settings: Record<string, unknown> } | null} [record]
 */

/** Prefix files on the server. Says "change" when this page has changed them. */
class Library extends EventTarget {
  /**
   * @param {string} [family] of a checkpoint, to be told which fit
   * @returns {Promise<PrefixEntry[]>}
   */
  async list(family = "") {
    return (await ask(family ? `prefixes?${new URLSearchParams({ family })}` : "prefixes")).prefixes;
  }

  /**
   * @param {string} name
   * @param {string} [family] of a checkpoint, to be told whether the prefix fits
   * @returns {Promise<PrefixEntry>}
   */
  details(name, family = "") {
    return ask(`prefixes/details?${new URLSearchParams(family ? { name, family } : { name })}`);
  }

  /**
   * @param {string} name of a checkpoint
   * @returns {Promise<string>} its family, empty if the server cannot tell
   */
  async familyOf(name) {
    return (await ask(`checkpoints/family?${new URLSearchParams({ name })}`)).family;
  }

  /** @param {string} name */
  address(name) {
    return api.apiURL(`/anonymize_faces/prefixes/export?${new URLSearchParams({ name })}`);
  }

  /**
   * @param {PrefixEntry} entry
   * @returns {string} the address of the picture beside its file; empty if there is none
   */
  picture({ name, picture }) {
    return picture ? api.apiURL(`/anonymize_faces/prefixes/picture?${new URLSearchParams({ name, of: picture })}`) : "";
  }

  /**
   * @param {string} name
   * @param {string} to
   */
  async rename(name, to) {
    await ask("prefixes/rename", { name, to });
    await this.#changed();
  }

  /** @param {string} name */
  async remove(name) {
    await ask("prefixes/delete", { name });
    await this.#changed();
  }

  /**
   * The server checks the file and refuses what is no prefix.
   * @param {File} file
   * @returns {Promise<PrefixEntry>}
   */
  async take(file) {
    // A folder, or a file that is gone, would look like a server that is not there.
    const body = await file.arrayBuffer().catch((error) => {
      throw new Error(t("library.unreadable", { name: file.name }), { cause: error });
    });
    const answer = await answerTo(
      api.fetchApi(`/anonymize_faces/prefixes/import?${new URLSearchParams({ name: file.name })}`, {
        method: "POST",
        headers: { "Content-Type": "application/octet-stream" },
        body,
      }),
    );
    await this.#changed();
    return answer;
  }

  async #changed() {
    this.dispatchEvent(new Event("change"));
    // The change is made; that the server has gone since then is told by the host itself.
    await app.refreshComboInNodes().catch(() => {});
  }
}

export const library = new Library();
