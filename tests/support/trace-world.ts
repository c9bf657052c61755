/** Servers that record, and what is the same in two recordings of the same traffic. */

import { openTraceFile } from "../../engine/recording/trace-file.ts";
import type { TraceLine } from "../../engine/recording/trace-line.ts";
import { type Recording, startRecording } from "../../engine/recording/recording.ts";
import type { TokenEvent } from "../../engine/request.ts";
import { type HttpServer, serveHttp } from "../../engine/server/listen.ts";
import { createApp } from "../../engine/server/server.ts";
import type { Answer, Prompt, Workload } from "../../cli/bench/types.ts";
import type { KvEngineError } from "../../engine/errors.ts";
import { ByteTokenizer, EOS_ID } from "./byte-tokenizer.ts";
import { FakeEngineClient, NO_TIMING, type Script } from "./fake-engine-client.ts";
import { post } from "./server.ts";

export interface RecordingServer extends AsyncDisposable {
  readonly url: string;
  readonly engine: FakeEngineClient;
  readonly recording: Recording;
  readonly troubles: KvEngineError[];
}

/** A listening server over the fake engine that writes a trace; disposing of it closes the file. */
export async function recordingServer(
  path: string,
  { content = false }: { readonly content?: boolean } = {},
): Promise<RecordingServer> {
  const engine = new FakeEngineClient();
  engine.info = { ...engine.info, maxModelLen: 100_000, numBlocks: 10_000 };
  engine.script = lettersOf;
  const tokenizer = new ByteTokenizer();
  const troubles: KvEngineError[] = [];
  const recording = startRecording(engine, await openTraceFile(path), {
    decode: content ? (ids) => tokenizer.decode(ids) : undefined,
    onTrouble: (error) => troubles.push(error),
  });
  const app = createApp({
    client: recording.client,
    model: { name: "tiny" },
    tokenizer,
    special: { bosToken: "", eosToken: "", endIds: [EOS_ID] },
    chatTemplate: "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}[assistant]",
    version: "0",
  });
  const server: HttpServer = serveHttp(app, { host: "127.0.0.1", port: 0 });
  return {
    url: server.url,
    engine,
    recording,
    troubles,
    async [Symbol.asyncDispose](): Promise<void> {
      await server.stop(true);
      await recording.close();
    },
  };
}

/** As many letters as were asked for; which ones depends on the whole prompt. */
const lettersOf: Script = ({ promptTokenIds, sampling: { maxTokens } }) => {
  const sum = promptTokenIds.reduce((hash, id) => (Math.imul(hash, 31) + id) | 0, 7) >>> 0;
  return Array.from({ length: maxTokens }, (_, i): TokenEvent => {
    const event = { tokenIds: [97 + ((sum + i * 7) % 26)], logprobs: [-1] };
    if (i < maxTokens - 1) return event;
    const usage = {
      promptTokens: promptTokenIds.length,
      completionTokens: maxTokens,
      cachedTokens: 16,
    };
    return { ...event, finish: { reason: "length", usage, timing: NO_TIMING } };
  });
};

/** Sends a prompt and waits for the whole answer. */
export async function send(
  server: { readonly url: string },
  prompt: Prompt,
  fields: Readonly<Record<string, unknown>>,
): Promise<Answer> {
  const path = prompt.kind === "chat" ? "/v1/chat/completions" : "/v1/completions";
  const response = await post(server, path, { ...bodyOf(prompt), ...fields });
  const text = await response.text();
  if (response.status !== 200) throw new Error(text);
  const { choices } = JSON.parse(text) as {
    choices: { text?: string; message?: { content: string } }[];
  };
  return { text: choices[0]?.text ?? choices[0]?.message?.content ?? "" };
}

function bodyOf(prompt: Prompt): object {
  switch (prompt.kind) {
    case "tokens":
      return { prompt: prompt.tokenIds };
    case "text":
      return { prompt: prompt.text };
    case "chat":
      return { messages: prompt.messages };
  }
}

/** Sends all conversations one after another, turn by turn. */
export async function sendAll(
  server: { readonly url: string },
  { conversations }: Workload,
): Promise<void> {
  for (const { turns } of conversations) {
    const answers: Answer[] = [];
    for (const turn of turns) {
      const fields = { max_tokens: turn.maxTokens, ignore_eos: turn.ignoreEos };
      answers.push(await send(server, turn.prompt(answers), fields));
    }
  }
}

export async function readTrace(path: string): Promise<TraceLine[]> {
  const text = await Bun.file(path).text();
  if (text !== "" && !text.endsWith("\n")) throw new Error("the last line is not whole");
  return text
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line) as TraceLine);
}

/** Lengths and sharing of each request, in the order of the lines: hashes are numbered as they come up. */
export function traceShape(lines: readonly TraceLine[]): object[] {
  const numbers = new Map<number, number>();
  const numberOf = (hash: number): number => {
    const number = numbers.get(hash) ?? numbers.size;
    numbers.set(hash, number);
    return number;
  };
  return lines.map((line) => ({
    input: line.input_length,
    output: line.output_length,
    blocks: line.hash_ids.map(numberOf),
    outputBlocks: line.output_hash_ids.map(numberOf),
  }));
}
