/** `kvengine serve`: model → engine → HTTP, and an orderly end on a signal. */

import { basename } from "node:path";
import type { CommandDef } from "citty";
import type { ConsolaInstance } from "consola";
import type { OptionValues } from "../engine/config.ts";
import { namedConnectors } from "../engine/connectors/named-connectors.ts";
import { KvEngineError } from "../engine/errors.ts";
import { DEFAULT_MODEL } from "../engine/hub/resolve.ts";
import { startRecording } from "../engine/recording/recording.ts";
import { openTraceFile, type TraceFile } from "../engine/recording/trace-file.ts";
import { Gate } from "../engine/server/gate.ts";
import { type HttpServer, serveHttp, stopWithin } from "../engine/server/listen.ts";
import { createApp } from "../engine/server/server.ts";
import { readTls, watchTls } from "../engine/server/tls.ts";
import { accessLog, promptLog } from "./access-lines.ts";
import { defineOurCommand } from "./command.ts";
import { errorText, EXIT, exitCodeOf, formatBytes } from "./output.ts";
import { listOf, readApiKeys, rootPath, tlsFiles } from "./serve-settings.ts";
import { openSession, type Session } from "./session.ts";
import { startTracing } from "./tracing.ts";
import { VERSION } from "./version.ts";

const command: CommandDef = defineOurCommand("serve", async ({ values, positionals, log }) => {
  const start = performance.now();
  const spec = positionals[0] ?? DEFAULT_MODEL;
  const apiKeys = await readApiKeys(values);
  const root = rootPath(values);
  const trace = await openTrace(values);
  const tracing = await startTracing(values, log);
  const gate = new Gate();
  const { server, stopWatching } = await listen(gate, values, log);
  let session: Session;
  try {
    session = await openSession(spec, values, log);
  } catch (error) {
    stopWatching();
    await server.stop(true);
    throw error;
  }
  const { tokenizer, special, chatTemplate } = session;
  const recording =
    trace === undefined
      ? undefined
      : startRecording(session.client, trace, {
          decode: values.recordContent ? (ids) => tokenizer.decode(ids) : undefined,
          onTrouble: (error) => log.warn(errorText(error)),
        });
  const client = recording?.client ?? session.client;
  const [name = nameOf(spec)] = values.servedModelName;
  const ending = new Ending();
  try {
    const app = createApp({
      client,
      model: { name, aliases: aliasesOf(session, spec, values.servedModelName) },
      tokenizer,
      special,
      chatTemplate,
      reasoningParser: values.reasoningParser,
      toolCallParser: values.toolCallParser,
      version: VERSION,
      isDraining: () => ending.begun,
      apiKeys,
      corsOrigins: listOf(values.allowedOrigins, "--allowed-origins"),
      rootPath: root,
      bodyLimit: values.maxBodySize,
      explains: values.explain,
      maxQueued: values.maxQueue === 0 ? undefined : values.maxQueue,
      requestTimeout: values.requestTimeout,
      streamTimes: { keepAlive: values.sseKeepAlive, slowReader: values.slowReaderTimeout },
      maxStoredResponses: values.maxStoredResponses,
      forceUsage: values.enableForceIncludeUsage,
      tracing,
      onAccess: accessLog(values, log),
      onPrompt: promptLog(values, log),
      onError: (error, requestId) => log.error(`request ${requestId}: ${errorText(error)}`),
    });
    client.onFatal((thrown) => ending.fail(thrown));
    gate.open(app);
    log.debug(describe(session));
    const connectors = namedConnectors(values);
    if (connectors.length > 0) log.info(describeConnectors(session, connectors));
    process.stdout.write(
      greeting(name, server.url, {
        root,
        ms: performance.now() - start,
        chats: chatTemplate !== undefined,
        locked: apiKeys.length > 0,
      }),
    );

    const first = await ending.first;
    if (first.thrown !== undefined) {
      log.error(errorText(first.thrown));
      // Every request has its error by now, and its client shall read it.
      await stopWithin(server, LAST_ANSWERS_MS);
      return exitCodeOf(first.thrown);
    }
    log.info(
      `${first.signal}: waiting up to ${values.shutdownTimeout} s for running requests; once more stops at once`,
    );
    // The listener stays open while requests end: who comes now is told to come back, not cut off.
    const drained = client
      .shutdown(values.shutdownTimeout * 1000)
      .then(() => server.stop())
      .then(() => undefined);
    const second = await Promise.race([drained, ending.second]);
    if (second === undefined) return EXIT.ok;
    log.warn(`${second}: stopping at once`);
    return second === "SIGTERM" ? EXIT.terminated : EXIT.interrupted;
  } finally {
    ending.close();
    stopWatching();
    if (!ending.begun) await client.shutdown(0);
    await tracing?.close(LAST_TRACES_MS);
    if (recording !== undefined) {
      await recording.close();
      const { written, lost } = recording.counts;
      log.info(
        `recorded ${written} requests in ${values.record}${lost > 0 ? `, lost ${lost}` : ""}`,
      );
    }
  }
});

interface Listening {
  readonly server: HttpServer;
  readonly stopWatching: () => void;
}

/** Listens before the model is loaded: who asks meanwhile is told so, and a port in use is noticed at once. */
async function listen(gate: Gate, values: OptionValues, log: ConsolaInstance): Promise<Listening> {
  const files = tlsFiles(values);
  const tls = files === undefined ? undefined : await readTls(files);
  const { host, port, uds } = values;
  const server = serveHttp(gate, { host, port, uds: uds === "" ? undefined : uds, tls });
  if (files === undefined || tls === undefined || !values.enableSslRefresh)
    return { server, stopWatching: () => {} };
  const stopWatching = watchTls(files, tls, {
    onChange(changed) {
      server.setTls(changed);
      log.info(`${files.cert} has changed: new connections get it`);
    },
    onTrouble: (error) => log.warn(`the certificate stays as it was: ${error.message}`),
  });
  return { server, stopWatching };
}

/** The file of `--record`: opened before the model is loaded, which takes longer. */
async function openTrace({ record, recordContent }: OptionValues): Promise<TraceFile | undefined> {
  if (record !== "") return openTraceFile(record);
  if (!recordContent) return undefined;
  throw new KvEngineError("bad_config", "--record-content needs --record", {
    subject: "--record-content",
    hint: "name the file with --record",
  });
}

/** Time for the last spans to reach their collector. */
const LAST_TRACES_MS = 5000;

/** Time for errors to reach the clients of a dead engine. */
const LAST_ANSWERS_MS = 1000;

type Signal = "SIGTERM" | "SIGINT";

/** Why the server ends: signals, counted, or a dead engine. */
class Ending {
  readonly first: Promise<{ readonly signal?: Signal; readonly thrown?: unknown }>;
  readonly second: Promise<Signal>;
  #signals = 0;
  readonly #end: (reason: { readonly signal?: Signal; readonly thrown?: unknown }) => void;
  readonly #endNow: (signal: Signal) => void;

  constructor() {
    ({ promise: this.first, resolve: this.#end } = Promise.withResolvers<{
      signal?: Signal;
      thrown?: unknown;
    }>());
    ({ promise: this.second, resolve: this.#endNow } = Promise.withResolvers<Signal>());
    process.on("SIGTERM", this.#onTerm).on("SIGINT", this.#onInt);
  }

  /** Whether a first signal has come: no new requests from then on. */
  get begun(): boolean {
    return this.#signals > 0;
  }

  fail(thrown: unknown): void {
    this.#end({ thrown });
  }

  close(): void {
    process.off("SIGTERM", this.#onTerm).off("SIGINT", this.#onInt);
  }

  readonly #onTerm = (): void => this.#count("SIGTERM");
  readonly #onInt = (): void => this.#count("SIGINT");

  #count(signal: Signal): void {
    this.#signals += 1;
    if (this.#signals === 1) this.#end({ signal });
    else this.#endNow(signal);
  }
}

/** A file's name without its folder and ending; an alias or a Hub name as it is. */
function nameOf(spec: string): string {
  return spec.endsWith(".gguf") && !spec.startsWith("hf:") ? basename(spec, ".gguf") : spec;
}

/** Other names that clients may know the model by. */
function aliasesOf({ client }: Session, spec: string, served: readonly string[]): string[] {
  // Who names the model does not want it known by the path of its file.
  const names = served.length > 0 ? served : [nameOf(spec), spec, client.info.modelName];
  return [...new Set(names)].slice(1);
}

function describe({ client: { info } }: Session): string {
  return (
    `${info.modelName} on ${info.backend}, ${info.threads} threads: weights ${formatBytes(info.weightBytes)}, ` +
    `activations ${formatBytes(info.activationBytes)}, KV ${formatBytes(info.kvBytes)} in ${info.numBlocks} blocks of ` +
    `${info.blockSize} tokens${info.kvCacheDtype === "" ? "" : ` as ${info.kvCacheDtype}`}, at most ${info.maxModelLen} tokens a sequence`
  );
}

function describeConnectors({ client }: Session, names: readonly string[]): string {
  const { numPages = 0, pageBytes = 0 } = client.stats().hostPool ?? {};
  return (
    `KV connectors: ${names.join(", ")}; host pool ${formatBytes(numPages * pageBytes)} ` +
    `(${numPages} pages), which fills up while requests are served`
  );
}

interface GreetingFacts {
  readonly root: string;
  readonly ms: number;
  readonly chats: boolean;
  readonly locked: boolean;
}

/** Standard output's only words: the address first, so that a script can wait for it. */
function greeting(name: string, url: string, { root, ms, chats, locked }: GreetingFacts): string {
  const key = locked ? ` -H "authorization: Bearer $KVENGINE_API_KEY"` : "";
  const body = chats
    ? {
        model: name,
        messages: [{ role: "user", content: "Name three colours." }],
        max_tokens: 64,
        temperature: 0,
      }
    : { model: name, prompt: "Once upon a time", max_tokens: 64 };
  const path = root + (chats ? "/v1/chat/completions" : "/v1/completions");
  const json = JSON.stringify(body).replaceAll("'", String.raw`'\''`);
  const socket = /^unix:(.*)/.exec(url)?.[1];
  const target =
    socket === undefined ? url + path : `--unix-socket ${socket} http://localhost${path}`;
  return (
    `kvengine ${VERSION} serves ${name} on ${url}${root} (ready in ${(ms / 1000).toFixed(2)} s)\n\n` +
    `  curl ${target}${key} -H "content-type: application/json" -d '${json}'\n\n`
  );
}

export default command;
