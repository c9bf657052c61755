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

/** For a verdict: whether blocks must have left the device and come back, none may have, or either will do. */
export type WantedEvictions = "some" | "none" | "any";

/** What a verdict on engines that keep KV differently rests on. */
export interface KvEvidence {
  /** Blocks that had to leave the device over the runs of all sides. */
  readonly evictedBlocks: number;
  /** What must have become of KV; `some` when left out. */
  readonly wanted?: WantedEvictions;
  /** Prompt tokens that came from below the device, where a side keeps KV there. */
  readonly tierHitTokens?: number;
  /** Each run against the first one, with the name of its side. */
  readonly answers: readonly { readonly side: string; readonly comparison: AnswerComparison }[];
}

/** Why there is none: nothing was evicted, nothing came back, or the answers are not the same. Empty = a verdict is due. */
export function reasonsForNoVerdict({
  evictedBlocks,
  wanted = "some",
  tierHitTokens,
  answers,
}: KvEvidence): string[] {
  const reasons: string[] = [];
  if (wanted === "none" && evictedBlocks > 0) {
    reasons.push(
      `${evictedBlocks} blocks were evicted: KV did not fit into the device's blocks; use fewer or shorter prompts, or more blocks`,
    );
  } else if (wanted === "some" && evictedBlocks === 0) {
    reasons.push(
      "nothing was evicted: all KV fitted into the device's blocks, so there was nothing to lose and nothing to bring back; use more or longer prompts, or fewer blocks",
    );
  } else if (wanted === "some" && tierHitTokens === 0) {
    reasons.push(
      "nothing came back from below the device: no prompt was asked for again after its eviction",
    );
  }
  return [...reasons, ...new Set(answers.flatMap(faultOf))];
}

function faultOf({ side, comparison }: KvEvidence["answers"][number]): string[] {
  const { compared, different, missing, first } = comparison;
  if (compared === 0) return [`side ${side} answered no request whole that the first run did`];
  if (first !== undefined) {
    const { conversation, turn, alike, a, b } = first;
    return [
      `${different} of ${compared} answers of side ${side} differ from those of the first run; the first one in conversation ${conversation}, turn ${turn}, after ${alike} characters: ${JSON.stringify(b)}, not ${JSON.stringify(a)}`,
    ];
  }
  return missing === 0
    ? []
    : [`${missing} requests were answered whole by side ${side} alone, or by the first run alone`];
}
