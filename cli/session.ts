/** A model that is ready to answer on this side of the engine's worker: what serve, run, chat and bench have in common. */

import type { ConsolaInstance } from "consola";
import { type OptionValues } from "../engine/config.ts";
import { engineConfig } from "../engine/config-values.ts";
import { checkConnectorFlags } from "../engine/connectors/load-connector.ts";
import { createEngineClient, type EngineClient } from "../engine/engine-client.ts";
import { errorFromData, KvEngineError } from "../engine/errors.ts";
import { resolveModel } from "../engine/hub/resolve.ts";
import { type LoadedModel, loadModel } from "../engine/models/registry.ts";
import { DEFAULT_SAMPLING, type SamplingParams, type Usage } from "../engine/request.ts";
import type { SpecialTokens } from "../engine/server/deps.ts";
import { type ChatTemplateMessage, renderChat } from "../engine/tokenizer/chat-template.ts";
import { Detokenizer } from "../engine/tokenizer/detokenizer.ts";
import { createTokenizer, type Tokenizer } from "../engine/tokenizer/tokenizer.ts";
import { createProgress, formatBytes } from "./output.ts";

/** A model's header: enough to make prompts of it. */
export interface OpenModel {
  readonly model: LoadedModel;
  readonly tokenizer: Tokenizer;
  readonly special: SpecialTokens;
  /** Jinja; undefined where neither the model nor the user gave one. */
  readonly chatTemplate: string | undefined;
}

export interface Session extends OpenModel {
  readonly client: EngineClient;
}

/** Finds the model, downloading it where it is not on disk yet, and shows how far that is. */
export async function findModel(
  spec: string,
  values: OptionValues,
  log: ConsolaInstance,
): Promise<string> {
  const progress = createProgress(log, values.progress);
  try {
    return await resolveModel(spec, {
      env: process.env,
      offline: values.offline,
      onProgress: ({ label, done, total }) => progress.update(label, done, total),
    });
  } finally {
    progress.stop();
  }
}

/** Finds the model and reads what is not weights. */
export async function openModel(
  spec: string,
  values: OptionValues,
  log: ConsolaInstance,
): Promise<OpenModel> {
  return await readModel(await findModel(spec, values, log), await ownTemplate(values));
}

async function readModel(path: string, template: string | undefined): Promise<OpenModel> {
  const model = await loadModel(path);
  const chatTemplate = template ?? model.vocabulary.chatTemplate;
  const tokenizer = createTokenizer(model.vocabulary);
  return { model, tokenizer, special: specialTokens(model), chatTemplate };
}

/** Starts the engine on the model and meanwhile opens it here. */
export async function openSession(
  spec: string,
  values: OptionValues,
  log: ConsolaInstance,
): Promise<Session> {
  checkConnectorFlags(values, process.cwd());
  const path = await findModel(spec, values, log);
  const config = engineConfig(path, values);
  const template = await ownTemplate(values);
  const starting = createEngineClient(config, (level, message) => log[level](message));
  const opening = readModel(path, template);
  const slow = setTimeout(
    () => log.info(`loading ${formatBytes(Bun.file(path).size)} of weights …`),
    SLOW_LOAD_MS,
  );
  try {
    const [open, client] = await Promise.all([opening, starting]);
    return { ...open, client };
  } catch (error) {
    // Whichever failed first is told; an engine that can start is not left behind.
    void starting.then(
      (client) => client.shutdown(0),
      () => undefined,
    );
    throw error;
  } finally {
    clearTimeout(slow);
  }
}

/** Loading that takes longer is announced. */
const SLOW_LOAD_MS = 2000;

async function ownTemplate({ chatTemplate: path }: OptionValues): Promise<string | undefined> {
  if (path === "") return undefined;
  try {
    return await Bun.file(path).text();
  } catch (cause) {
    throw new KvEngineError("bad_config", `the chat template ${path} cannot be read`, {
      subject: "--chat-template",
      cause,
    });
  }
}

function specialTokens({ vocabulary }: LoadedModel): SpecialTokens {
  const text = (id: number | undefined): string =>
    id === undefined ? "" : (vocabulary.tokens[id] ?? "");
  return {
    bosToken: text(vocabulary.bosId),
    eosToken: text(vocabulary.eosId),
    endIds: vocabulary.eosIds,
  };
}

/** The prompt of a conversation, in tokens. A model without a template gets the texts as they are. */
export function chatPrompt(
  session: Pick<OpenModel, "chatTemplate" | "special" | "tokenizer">,
  messages: readonly ChatTemplateMessage[],
): Int32Array {
  const { chatTemplate, special, tokenizer } = session;
  if (chatTemplate === undefined) {
    const text = messages
      .map(({ content }) => (typeof content === "string" ? content : ""))
      .join("\n\n");
    return tokenizer.encode(text, { parseSpecial: false, addSpecial: true });
  }
  const text = renderChat(chatTemplate, messages, {
    addGenerationPrompt: true,
    bosToken: special.bosToken,
    eosToken: special.eosToken,
  });
  return tokenizer.encode(text, { parseSpecial: true });
}

/** The sampling flags as the engine takes them, for a prompt of this length. */
export function samplingOf(
  values: OptionValues,
  session: Session,
  promptTokens: number,
): SamplingParams {
  const room = session.client.info.maxModelLen - promptTokens;
  return {
    ...DEFAULT_SAMPLING,
    temperature: values.temperature,
    topK: values.topK,
    topP: values.topP,
    minP: values.minP,
    seed: seedHalves(values.seed),
    maxTokens: values.maxTokens === 0 ? Math.max(1, room) : values.maxTokens,
    stopTokenIds: session.special.endIds,
  };
}

function seedHalves(seed: number): readonly [number, number] {
  if (seed < 0) {
    const [low = 0, high = 0] = crypto.getRandomValues(new Uint32Array(2));
    return [low, high];
  }
  return [seed % 2 ** 32, Math.floor(seed / 2 ** 32)];
}

export interface Answer {
  readonly text: string;
  readonly usage: Usage | undefined;
  /** Milliseconds from the request to its first token, and from there to its last. */
  readonly firstTokenMs: number;
  readonly restMs: number;
}

/** Generates, handing over text as it comes. Ends early, with what there is, when `signal` is aborted. */
export async function answer(
  session: Session,
  promptTokenIds: Int32Array,
  sampling: SamplingParams,
  onText: (text: string) => void,
  signal: AbortSignal,
): Promise<Answer> {
  const { client, tokenizer } = session;
  const id = crypto.randomUUID();
  const detokenizer = new Detokenizer(tokenizer);
  const start = performance.now();
  let firstAt: number | undefined;
  let text = "";
  let usage: Usage | undefined;
  const say = (piece: string): void => {
    text += piece;
    if (piece !== "") onText(piece);
  };
  const abort = (): void => client.abort(id);
  signal.addEventListener("abort", abort, { once: true });
  try {
    for await (const event of client.generate({
      id,
      promptTokenIds,
      sampling,
      arrivalTime: Date.now(),
      priority: 0,
    })) {
      if (event.tokenIds.length > 0 || event.finish !== undefined) firstAt ??= performance.now();
      say(detokenizer.push(event.tokenIds));
      if (event.finish === undefined) continue;
      usage = event.finish.usage;
      if (event.finish.error !== undefined) throw errorFromData(event.finish.error);
    }
  } finally {
    signal.removeEventListener("abort", abort);
  }
  say(detokenizer.flush());
  const end = performance.now();
  return { text, usage, firstTokenMs: (firstAt ?? end) - start, restMs: end - (firstAt ?? end) };
}

/** For standard error: lengths and rates. */
export function statsLine({ usage, firstTokenMs, restMs }: Answer): string {
  const prompt = usage?.promptTokens ?? 0;
  const generated = usage?.completionTokens ?? 0;
  const rate = (tokens: number, ms: number): string =>
    ms > 0 && tokens > 0 ? `${((tokens / ms) * 1000).toFixed(1)} tokens/s` : "-";
  return `prompt ${prompt} tokens, ${rate(prompt, firstTokenMs)}; answer ${generated} tokens, ${rate(generated - 1, restMs)}`;
}
