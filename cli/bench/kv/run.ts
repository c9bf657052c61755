/** One run of a workload on an engine of its own, in this process: no HTTP, no other run's KV. */

import type { EngineConfig } from "../../../engine/config.ts";
import { createEngineClient, type EngineClient } from "../../../engine/engine-client.ts";
import { KvEngineError } from "../../../engine/errors.ts";
import { ask, randomTokens } from "../engine/requests.ts";
import type { Workload } from "../types.ts";

/** A request of a workload: one turn, whose prompt is tokens. */
export interface Question {
  readonly id: string;
  readonly promptTokenIds: Int32Array;
  readonly maxTokens: number;
}

export interface KvRun {
  readonly durationMs: number;
  /** User and system time of the process: engine, kernels and this client. */
  readonly cpuSeconds: number;
  readonly promptTokens: number;
  /** Prompt tokens whose KV was there. */
  readonly cachedTokens: number;
  readonly outputTokens: number;
  /** Blocks with cached content that were given to others, and all blocks of the device. */
  readonly evictedBlocks: number;
  readonly numBlocks: number;
  readonly preemptions: number;
  /** Tokens of the answers, by the questions' ids. */
  readonly answers: ReadonlyMap<string, readonly number[]>;
}

/** Throws `unsupported` for a workload whose prompts are not tokens or depend on answers. */
export function questionsOf(workload: Workload): readonly Question[] {
  return workload.conversations.map(({ id, turns }) => {
    const [turn, more] = turns;
    const prompt = turn?.prompt([]);
    if (turn === undefined || more !== undefined || prompt?.kind !== "tokens") {
      throw new KvEngineError("unsupported", `conversation ${id} is not one prompt of tokens`, {
        subject: workload.name,
      });
    }
    return { id, promptTokenIds: Int32Array.from(prompt.tokenIds), maxTokens: turn.maxTokens };
  });
}

/** Asks all questions in order, `numClients` at a time. Starting the engine and its first step are not counted. */
export async function runQuestions(
  config: EngineConfig,
  questions: readonly Question[],
  numClients: number,
): Promise<KvRun> {
  const client = await createEngineClient(config);
  try {
    await warmUp(client);
    return await measure(client, questions, numClients);
  } finally {
    await client.shutdown(0);
  }
}

/** A prompt that no question has, so that threads are awake and the first pages are there. */
async function warmUp(client: EngineClient): Promise<void> {
  const { vocabSize, blockSize } = client.info;
  await ask(client, randomTokens(blockSize, vocabSize, WARM_UP_SEED), 1);
  await client.resetPrefixCache();
}

const WARM_UP_SEED = -2;

async function measure(
  client: EngineClient,
  questions: readonly Question[],
  numClients: number,
): Promise<KvRun> {
  const answers = new Map<string, readonly number[]>();
  let cachedTokens = 0;
  let next = 0;
  const askOn = async (): Promise<void> => {
    for (let question = questions[next++]; question !== undefined; question = questions[next++]) {
      const answer = await ask(client, question.promptTokenIds, question.maxTokens);
      answers.set(question.id, answer.tokenIds);
      cachedTokens += answer.cachedTokens;
    }
  };
  const before = client.stats();
  const cpu = process.cpuUsage();
  const start = performance.now();
  await Promise.all(Array.from({ length: numClients }, askOn));
  const durationMs = performance.now() - start;
  const { user, system } = process.cpuUsage(cpu);
  const after = client.stats();
  return {
    durationMs,
    cpuSeconds: (user + system) / 1e6,
    promptTokens: questions.reduce((sum, { promptTokenIds }) => sum + promptTokenIds.length, 0),
    cachedTokens,
    outputTokens: [...answers.values()].reduce((sum, tokens) => sum + tokens.length, 0),
    evictedBlocks: after.evictedBlocks - before.evictedBlocks,
    numBlocks: client.info.numBlocks,
    preemptions: after.preemptions - before.preemptions,
    answers,
  };
}
