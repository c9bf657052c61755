/** Entry of the engine's Worker. An extra entry point of the compiled executable: see `engine-client.ts`. */

import type { EngineConfig } from "./config.ts";
import type { KvCache } from "./cache/kv-cache.ts";
import type { LogLine } from "./connectors/connector-log.ts";
import { DiskPins } from "./connectors/disk-pins.ts";
import { openConnectors } from "./connectors/open-connectors.ts";
import { Pins } from "./connectors/pins.ts";
import { MOST_KEPT } from "./connectors/sessions/known-sessions.ts";
import { openSessions } from "./connectors/sessions/open-sessions.ts";
import { roomForRecords, SessionFolder } from "./connectors/sessions/session-folder.ts";
import { SessionSeries } from "./connectors/sessions/session-series.ts";
import { startConnectors } from "./connectors/start-connectors.ts";
import { Explainer } from "./explain/explainer.ts";
import { EngineHost, type EngineParts } from "./engine-host.ts";
import type { FromEngine, ToEngine } from "./engine-messages.ts";
import { epochMs } from "./epoch.ts";
import { modelFingerprint } from "./model-fingerprint.ts";
import { errorToData, toKvEngineError } from "./errors.ts";
import { Grammars } from "./grammars.ts";
import { GrammarCompiler } from "./runner/grammar-compiler.ts";
import { hashBlocks, hashEach, memoryAvailable, noneHash } from "./runner/native.ts";
import { NativeDisk } from "./runner/native-disk.ts";
import { startModel } from "./runner/native-runner.ts";
import { guessedPromptMicros } from "./runner/prompt-cost.ts";
import type { RequestLog } from "./scheduler/request-log.ts";
import { Scheduler } from "./scheduler/scheduler.ts";
import type { StopChecker } from "./scheduler/sequence.ts";
import { sha256 } from "./connectors/sha256.ts";
import { Detokenizer } from "./tokenizer/detokenizer.ts";
import { StopMatcher } from "./tokenizer/stop-matcher.ts";
import { createTokenizer, type Tokenizer } from "./tokenizer/tokenizer.ts";

declare const self: Worker;
/** The other end is the thread that started this one. */
const port: Worker = self;

const post = (message: FromEngine): void => port.postMessage(message);

async function start(config: EngineConfig, hookWord: SharedArrayBuffer): Promise<EngineParts> {
  const now = (): number => performance.now();
  const log: LogLine = (level, message) => post({ type: "log", level, message });
  // Before the model: what is wrong with a connector is known at once.
  const connectors = await openConnectors(config, {
    hookWord,
    now,
    log,
    onStrayError: (thrown) => post({ type: "fatal", error: errorToData(toKvEngineError(thrown)) }),
  });
  const { model, runner, limits, maxSamples, info } = await startModel(config, log);
  // Stop strings are rare and a tokenizer is large, so the first request that has one makes it.
  let tokenizer: Tokenizer | undefined;
  const createStopChecker = (stop: readonly string[], minTokens: number): StopChecker => {
    tokenizer ??= createTokenizer(model.vocabulary);
    const detokenizer = new Detokenizer(tokenizer);
    const matcher = new StopMatcher(stop);
    let numTokens = 0;
    return (tokenId) => {
      const text = detokenizer.push([tokenId]);
      return numTokens++ < minTokens ? undefined : matcher.push(text).matched;
    };
  };
  let explainer: Explainer | undefined;
  const started =
    connectors.numConnectors === 0
      ? undefined
      : startConnectors(config, connectors, {
          openTransfers: (hostPages, onResults) =>
            runner.openTransfers(
              {
                hostPages,
                threads: 1,
                // As many as reach what a disk gives.
                fileThreads: config.kvDiskPath === "" ? 1 : 2,
                checksums: true,
                storeShare: config.kvOffloadStoreShare,
                linkBytesPerSecond: config.kvOffloadLink,
                guardSteps: false,
                manual: false,
              },
              onResults,
            ),
          pageBytes: info.kvBytes / (info.numBlocks + 1),
          pageLayout: info.pageLayout,
          memoryAvailable,
          onNews: () => host.news(),
          onRemoved: (keys) => explainer?.dropped(keys),
          log,
        });
  const createLog = (kv: KvCache): RequestLog => {
    const states = connectors.numConnectors === 0 ? {} : { connectors: () => connectors.states() };
    explainer = new Explainer(kv, { now: epochMs, ...states });
    return explainer.log;
  };
  const isKept = started !== undefined && (config.kvDiskPath !== "" || connectors.someKeepFiles);
  const fingerprintParts = { ...info, ...config, files: model.files };
  const fingerprint = isKept ? modelFingerprint(fingerprintParts) : undefined;
  const disk =
    started === undefined || fingerprint === undefined || config.kvDiskPath === ""
      ? undefined
      : await NativeDisk.open(started.transfers, {
          path: config.kvDiskPath,
          sizeBytes: config.kvDiskSize - roomForRecords(config.kvDiskSize),
          pageBytes: started.transfers.pageBytes,
          fingerprint,
          directIo: config.kvDiskDirect,
          ...(config.kvDiskCompress === "int8" ? { int8Layout: info.pageLayout } : {}),
          ...(config.kvDiskTtl === 0 ? {} : { ttlSeconds: config.kvDiskTtl }),
        });
  if (disk?.stats().isReadOnly === true) {
    const { kvDiskPath } = config;
    log(
      "warn",
      `--kv-disk-path: ${kvDiskPath} cannot be written: KV blocks are loaded from it, and none is stored`,
    );
  }
  const records =
    disk === undefined || fingerprint === undefined
      ? undefined
      : await SessionFolder.open({
          path: config.kvDiskPath,
          model: sha256(JSON.stringify([fingerprint, info.blockSize, limits.groups.length])),
          blockSize: info.blockSize,
          vocabSize: info.vocabSize,
          isReadOnly: disk.stats().isReadOnly,
          maxBytes: roomForRecords(config.kvDiskSize),
          maxRecords: MOST_KEPT,
          epochMs,
          log,
        });
  const diskPins = disk === undefined ? undefined : new DiskPins(disk, now, epochMs);
  const onDisk = {
    ...(disk === undefined ? {} : { disk }),
    ...(diskPins === undefined ? {} : { diskPins }),
  };
  const kept = {
    ...onDisk,
    ...(fingerprint === undefined ? {} : { fingerprint }),
  };
  const scheduler = new Scheduler(
    { ...config, limits, maxSamples },
    {
      createStopChecker,
      hashBlocks,
      hashEach,
      noneHash: noneHash(config.prefixHashSeed),
      now,
      guessedPromptMicros: guessedPromptMicros(model.tensors, info.backend),
      ...(config.explain ? { createLog } : {}),
      ...(started === undefined ? {} : { createConnectors: (side) => started.create(side, kept) }),
    },
  );
  const retained = started?.retained;
  const movers = started?.connectors();
  const sessions =
    retained === undefined || movers === undefined
      ? undefined
      : openSessions(explainer?.log, {
          moves: movers.moves,
          pool: scheduler.pool,
          retained,
          ...(records === undefined ? {} : { records }),
          ...onDisk,
          info: { ...info, numGroups: limits.groups.length, pageBytes: movers.pageBytes },
          fingerprint: async () => fingerprint ?? modelFingerprint(fingerprintParts),
          hashes: (tokenIds, cacheSalt) =>
            hashBlocks(noneHash(config.prefixHashSeed), tokenIds, info.blockSize, cacheSalt),
          now,
          epochMs,
        });
  if (sessions !== undefined)
    connectors.watch((samples) => new SessionSeries(samples, sessions, now));
  // Rare too, and as large.
  let compiler: GrammarCompiler | undefined;
  const grammars = new Grammars(async (source) => {
    compiler ??= new GrammarCompiler(model.vocabulary);
    return compiler.compile(source);
  });
  return {
    scheduler,
    runner,
    info,
    grammars,
    connectors,
    ...(started === undefined ? {} : { transfers: started.transfers }),
    ...(explainer === undefined ? {} : { explainer }),
    ...(sessions === undefined ? {} : { sessions }),
    ...(retained === undefined
      ? {}
      : {
          pins: new Pins(retained, explainer?.log, limits, now, {
            ...onDisk,
            isInHost: (key) => movers?.moves.isInHost(key) ?? false,
          }),
        }),
  };
}

const host = new EngineHost(post, start);
port.addEventListener("message", (event: MessageEvent<ToEngine>) => host.receive(event.data));
