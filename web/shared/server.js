// Asks the routes of our own, and tells in words of the language what goes wrong with that.

import { api } from "./host.js";
import { t } from "./text.js";

/**
 * Sends JSON to one of our routes and reads JSON.
 * @param {string} path below /anonymize_faces/
 * @param {unknown} [body] posts it; without one the route is read
 * @returns {Promise<any>}
 * @throws {Error} with what the server says
 */
export async function ask(path, body) {
  const options =
    body === undefined
      ? { cache: /** @type {RequestCache} */ ("no-store") }
      : { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  return answerTo(api.fetchApi(`/anonymize_faces/${path}`, options));
}

/**
 * Reads what one of our routes answers.
 * @param {Promise<Response>} request
 * @returns {Promise<any>}
 * @throws {Error} with what the server says, or a sentence if it says nothing
 */
export async function answerTo(request) {
  // The browser's own words for a server that is not there are no help ("Failed to fetch").
  const response = await request.catch((error) => {
    throw new Error(t("server.away"), { cause: error });
  });
  const answer = await response.json().catch(() => null);
  if (response.ok && answer !== null) return answer;
  throw new Error(typeof answer?.error === "string" ? answer.error : t("server.failed", { status: response.status }));
}
