// Names the nodes that turn text into pictures past every text encoder of the workflow.

import { ask } from "../shared/server.js";
import { connected } from "./clip_source.js";

/** @typedef {import("../shared/host.js").LGraphNode} LGraphNode */

/**
 * @param {LGraphNode[]} nodes
 * @returns {Promise<{ own: LGraphNode[], services: LGraphNode[] }>} those that read text by themselves, and those that
 *     send it elsewhere
 * @throws {Error} the server could not be asked
 */
export async function readersOfText(nodes) {
  /** @type {{ own_encoders: Record<string, string[]>, services: string[] }} */
  const told = await ask("own_encoders");
  const own = nodes.filter((node) => {
    const instead = Object.hasOwn(told.own_encoders, node.type) ? told.own_encoders[node.type] : null;
    return instead !== null && !(node.inputs ?? []).some((input, slot) => instead.includes(input.name) && connected(node, slot));
  });
  return { own, services: nodes.filter((node) => told.services.includes(node.type)) };
}
