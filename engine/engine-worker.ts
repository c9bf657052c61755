/** Entry of the engine's Worker. An extra entry point of the compiled executable: see `engine-client.ts`. */

import type { EngineConfig } from "./config.ts";
import { EngineHost, type EngineParts } from "./engine-host.ts";
import type { FromEngine, ToEngine } from "./engine-messages.ts";
import { hashBlocks, hashEach, noneHash } from "./runner/native.ts";
import { startModel } from "./runner/native-runner.ts";
import { Scheduler } from "./scheduler/scheduler.ts";
import type { StopChecker } from "./scheduler/sequence.ts";
import { Detokenizer } from "./tokenizer/detokenizer.ts";
import { StopMatcher } from "./tokenizer/stop-matcher.ts";
import { createTokenizer, type Tokenizer } from "./tokenizer/tokenizer.ts";

declare const self: Worker;
/** The other end is the thread that started this one. */
const port: Worker = self;

async function start(config: EngineConfig): Promise<EngineParts> {
  const { model, runner, limits, maxSamples, info } = await startModel(config);
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
  const scheduler = new Scheduler(
    { ...config, limits, maxSamples },
    {
      createStopChecker,
      hashBlocks,
      hashEach,
      noneHash: noneHash(config.prefixHashSeed),
      now: () => performance.now(),
    },
  );
  return { scheduler, runner, info };
}

const host = new EngineHost((message: FromEngine) => port.postMessage(message), start);
port.addEventListener("message", (event: MessageEvent<ToEngine>) => host.receive(event.data));
