// Connects the page anew where the server has lost it, and fetches the results that never came.
//
// Where a page connects again before the server has done with its old connection, the host forgets the new one together
// with the old (its websocket handler ends with `sockets.pop(sid)`, whichever socket that is by then). Nothing comes any
// more: the page shows the step that it heard of last, and no results, for good.

import { api } from "./host.js";

/** A prompt may take a while after its run; what it gives from now on comes by itself. */
const MOST_TRIES = 60;
const TRY_MILLISECONDS = 2000;

/** Closes the connection; the host opens another one at once, and tells "reconnected". */
export function connectAnew() {
  api.socket?.close();
}

/**
 * Tells the page what a prompt of its own gave, as the server would have, once the prompt has ended.
 * @param {string} prompt its id
 */
export async function fetchResults(prompt) {
  for (let tries = 0; tries < MOST_TRIES; tries += 1) {
    const history = await (await api.fetchApi(`/history/${encodeURIComponent(prompt)}`)).json();
    if (history[prompt]) {
      tellResults(prompt, history[prompt]);
      return;
    }
    await new Promise((done) => setTimeout(done, TRY_MILLISECONDS));
  }
}

/**
 * @param {string} prompt
 * @param {any} entry of the host's history
 */
function tellResults(prompt, entry) {
  if (entry.prompt?.[3]?.client_id !== api.clientId) return;
  const tell = /** @type {(name: string, detail: unknown) => void} */ (api.dispatchCustomEvent.bind(api));
  for (const [node, output] of Object.entries(entry.outputs ?? {})) {
    tell("executed", { node, display_node: entry.meta?.[node]?.display_node ?? node, output, prompt_id: prompt });
  }
  tell("executing", null);
  if (entry.status?.status_str === "success") tell("execution_success", { prompt_id: prompt, timestamp: Date.now() });
}
