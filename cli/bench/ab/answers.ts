/** Whether two sides said the same: greedy answers must not depend on where the KV came from. */

import type { RequestRecord, Run } from "../types.ts";

export interface AnswerDifference {
  readonly conversation: string;
  readonly turn: number;
  /** Characters that are alike. */
  readonly alike: number;
  /** What follows on each side, cut short. */
  readonly a: string;
  readonly b: string;
}

export interface AnswerComparison {
  /** Requests that both sides answered whole. */
  readonly compared: number;
  readonly different: number;
  /** Requests that one side alone has answered whole. */
  readonly missing: number;
  /** In the order of side a's records. */
  readonly first?: AnswerDifference;
}

const SHOWN = 60;

export function compareAnswers(a: Pick<Run, "records">, b: Pick<Run, "records">): AnswerComparison {
  const ofB = answersByTurn(b.records);
  const ofA = answersByTurn(a.records);
  let compared = 0;
  let different = 0;
  let first: AnswerDifference | undefined;
  for (const [key, one] of ofA) {
    const two = ofB.get(key);
    if (two === undefined) continue;
    compared += 1;
    if (one.text === two.text) continue;
    different += 1;
    first ??= difference(one, two);
  }
  return {
    compared,
    different,
    missing: ofA.size + ofB.size - 2 * compared,
    ...(first === undefined ? {} : { first }),
  };
}

function answersByTurn(records: readonly RequestRecord[]): Map<string, RequestRecord> {
  const whole = records.filter(({ outcome }) => outcome === "ok");
  return new Map(
    whole.map((record) => [JSON.stringify([record.conversation, record.turn]), record]),
  );
}

function difference(one: RequestRecord, two: RequestRecord): AnswerDifference {
  let alike = 0;
  while (alike < one.text.length && one.text[alike] === two.text[alike]) alike += 1;
  return {
    conversation: one.conversation,
    turn: one.turn,
    alike,
    a: one.text.slice(alike, alike + SHOWN),
    b: two.text.slice(alike, alike + SHOWN),
  };
}

/** What a verdict on offloading rests on. */
export interface KvEvidence {
  /** Blocks that had to leave the device over the runs of all sides. */
  readonly evictedBlocks: number;
  /** Prompt tokens that the side with the connector found below the device. */
  readonly tierHitTokens: number;
  readonly answers: AnswerComparison;
}

/** Why there is none: nothing was evicted, nothing came back, or the answers are not the same. Empty = a verdict is due. */
export function reasonsForNoVerdict({
  evictedBlocks,
  tierHitTokens,
  answers,
}: KvEvidence): string[] {
  const reasons: string[] = [];
  if (evictedBlocks === 0) {
    reasons.push(
      "nothing was evicted: all KV fitted into the device's blocks, so a tier below had nothing to do; use more or longer prompts, or fewer blocks",
    );
  } else if (tierHitTokens === 0) {
    reasons.push(
      "nothing came back from a tier below the device: no prompt was asked for again after its eviction",
    );
  }
  if (answers.compared === 0) reasons.push("no request was answered whole by both sides");
  if (answers.first !== undefined) {
    const { conversation, turn, alike, a, b } = answers.first;
    reasons.push(
      `${answers.different} of ${answers.compared} answers differ; first conversation ${conversation}, turn ${turn}, after ${alike} characters: ${JSON.stringify(a)} on side a, ${JSON.stringify(b)} on side b`,
    );
  }
  return reasons;
}
