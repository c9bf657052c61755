/** Documents that are asked about again and again: what a KV cache below the device's is for. */

import type { OptionValues } from "../../../engine/config.ts";
import { hashBlocks, noneHash } from "../../../engine/runner/native.ts";
import { randomTokens } from "../engine/requests.ts";
import type { Conversation, Workload } from "../types.ts";

export type DocumentOptions = Pick<
  OptionValues,
  "documents" | "documentLen" | "questionLen" | "answerLen" | "passes"
>;

/** Questions have seeds above those of documents. */
const FIRST_QUESTION_SEED = 2 ** 20;

/** A conversation for each question, in the order in which they are asked. */
export function documentQuestions(options: DocumentOptions, vocabSize: number): Workload {
  const { documents, documentLen, questionLen, answerLen, passes } = options;
  const numPromptTokens = documentLen + questionLen;
  const conversations: Conversation[] = [];
  for (let pass = 0; pass < passes; pass++) {
    for (let document = 0; document < documents; document++) {
      const seed = FIRST_QUESTION_SEED + conversations.length;
      const prompt = (): { kind: "tokens"; tokenIds: readonly number[] } => ({
        kind: "tokens",
        tokenIds: [
          ...randomTokens(documentLen, vocabSize, document),
          ...randomTokens(questionLen, vocabSize, seed),
        ],
      });
      const turn = {
        thinkTimeMs: 0,
        maxTokens: answerLen,
        ignoreEos: true,
        numPromptTokens,
        prompt,
      };
      conversations.push({ id: `document ${document} question ${pass}`, turns: [turn] });
    }
  }
  return {
    name: "document-questions",
    seed: 0,
    parameters: {
      documents: documents,
      "document-len": documentLen,
      "question-len": questionLen,
      "answer-len": answerLen,
      passes: passes,
    },
    conversations,
  };
}

/** Whole blocks that more than one of the prompts begins with: what a cache must hold to find all that was there before. */
export function workingSetBlocks(prompts: readonly Int32Array[], blockSize: number): number {
  const seen = new Map<string, number>();
  const root = noneHash("0");
  for (const prompt of prompts) {
    const hashes = hashBlocks(root, prompt, blockSize);
    for (let at = 0; at < hashes.length; at += HASH_WORDS) {
      const key = hashes.subarray(at, at + HASH_WORDS).join();
      seen.set(key, (seen.get(key) ?? 0) + 1);
    }
  }
  return [...seen.values()].filter((prompts) => prompts > 1).length;
}

/** Words of a block's hash. */
const HASH_WORDS = 8;
