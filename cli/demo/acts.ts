/**
 * The acts of `kvengine demo`: a document's KV is computed, found on the device, evicted by others, brought back from the host's memory,
 * and found on the disk by another process. Each act tells what the server's receipt says.
 */

import { ask, type Asked } from "./ask.ts";

export interface Act {
  readonly name: "cold" | "hit" | "evict" | "restore" | "restart";
  /** What happens in it, for people. */
  readonly plot: string;
  readonly answers: readonly Asked[];
}

/** A server that was started for the demo. */
export interface DemoServer {
  readonly baseUrl: string;
  stop(): Promise<void>;
}

export interface Stage {
  /** Starts a server, each time on the same folder. */
  readonly start: () => Promise<DemoServer>;
  /** Prompts in tokens: the document that comes again, and those that take its place. */
  readonly document: readonly number[];
  readonly others: readonly (readonly number[])[];
  readonly signal: AbortSignal;
  /** An act begins, and has ended. */
  readonly begins: (act: Pick<Act, "name" | "plot">) => void;
  readonly ended: (act: Act) => void;
}

/** Blocks of the device, of those that the document needs: it fits, and not beside another. */
export const DEVICE_SHARE = 1.25;
/** Tokens of each answer. */
export const ANSWER_TOKENS = 16;

const DOCUMENTS = new Intl.NumberFormat("en");

/** Answers all acts in order. Rejects with what keeps a server from answering. */
export async function playDemo(stage: Stage): Promise<readonly Act[]> {
  const { document, others, signal } = stage;
  const acts: Act[] = [];
  const length = DOCUMENTS.format(document.length);
  let server = await stage.start();
  const play = async (
    name: Act["name"],
    plot: string,
    prompts: readonly (readonly number[])[] = [document],
  ): Promise<void> => {
    stage.begins({ name, plot });
    if (name === "restart") {
      await server.stop();
      server = await stage.start();
    }
    const answers: Asked[] = [];
    for (const prompt of prompts)
      answers.push(await ask(server.baseUrl, prompt, ANSWER_TOKENS, signal));
    const act = { name, plot, answers };
    acts.push(act);
    stage.ended(act);
  };
  try {
    await play("cold", `a document of ${length} tokens that nobody has seen`);
    await play("hit", "the same document again");
    await play("evict", `${others.length} other documents take its place on the device`, others);
    await play("restore", "the first document again");
    await play("restart", "the first document again, after the server was stopped and started");
  } finally {
    await server.stop();
  }
  return acts;
}

/** What a receipt says, as a line. */
export function receiptLine({ firstTokenMs, promptTokens, cached, ...receipt }: Asked): string {
  const parts = Object.entries(cached)
    .filter(([, tokens]) => tokens > 0)
    .map(([tier, tokens]) => `${DOCUMENTS.format(tokens)} ${PLACES[tier] ?? `from ${tier}`}`);
  const numCached = Object.values(cached).reduce((sum, tokens) => sum + tokens, 0);
  parts.push(`${DOCUMENTS.format(promptTokens - numCached)} computed`);
  const waited = receipt.loadMs > 0 ? `; waited ${show(receipt.loadMs)} ms for them` : "";
  // A server that has computed no prompt yet does not know.
  const saved = receipt.savedMs > 0 ? `; saved ${show(receipt.savedMs)} ms` : "";
  return `first token after ${show(firstTokenMs)} ms: ${parts.join(", ")}${waited}${saved}`;
}

const PLACES: Readonly<Record<string, string>> = {
  device: "found on the device",
  host: "from the host's memory",
  disk: "from the disk",
};

function show(ms: number): string {
  return DOCUMENTS.format(Number(ms.toFixed(ms < 10 ? 1 : 0)));
}
