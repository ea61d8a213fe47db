// Puts what is known of a prefix into words, for the node and the list.

import { percent, t } from "../shared/text.js";

/** @typedef {import("./library.js").PrefixEntry} PrefixEntry */

/** @param {PrefixEntry} entry */
export function learnedOn(entry) {
  const family = entry.family || t("prefix.unknownFamily");
  if (!entry.steps) return t("prefix.imported", { family, vectors: entry.vectors });
  const { identities, steps, vectors } = entry;
  return t("prefix.learned", { family, identities, steps, vectors });
}

/** @param {PrefixEntry} entry */
export function scored({ scores }) {
  const said = [];
  if ("identity_signal_left" in scores) {
    said.push(t("training.signal", { percent: percent(scores.identity_signal_left) }));
    said.push(t("training.moved", { percent: percent(scores.general_prompts_moved ?? 0) }));
  }
  return said.length ? said.join(" · ") : t("prefix.unscored");
}
