// Says in words how well a prefix protects, by what validation found.

import { t } from "../shared/text.js";

/** Share of recognizability below which a prefix protects well. */
export const GOAL = 0.1;
/** Shares above which much is left of people, and other prompts change much; as in trainer/reporting/report.py. */
const MUCH = 0.3;

/**
 * @param {{ identity_signal_left: number, general_prompts_moved: number }} score
 * @param {boolean} on whether the run goes on, so that there is something to advise
 * @returns {{ grade: "good" | "fair" | "poor", text: string }}
 */
export function verdict({ identity_signal_left: left, general_prompts_moved: moved }, on) {
  if (!(left <= MUCH)) return { grade: "poor", text: t(on ? "verdict.poorOn" : "verdict.poor") };
  if (!(moved <= MUCH)) return { grade: "fair", text: t(on ? "verdict.effectsOn" : "verdict.effects") };
  if (left > GOAL) return { grade: "fair", text: t(on ? "verdict.fairOn" : "verdict.fair") };
  return { grade: "good", text: t(on ? "verdict.goodOn" : "verdict.good") };
}
