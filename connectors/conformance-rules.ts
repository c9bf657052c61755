/** Rules of the interface that need no running engine. */

import {
  readEnding,
  readEvents,
  readLookUp,
  readNothing,
  readParams,
  readStats,
} from "./answers.ts";
import { Broken, type Harness, type Rule, Unusable } from "./conformance.ts";
import type {
  BlockHashes,
  KvConnector,
  RequestView,
  SchedulerOutput,
  WantedBlocks,
} from "./connector.ts";
import type { ConnectorOption } from "./options.ts";
import { showThrown } from "./safe-text.ts";

/** A hook's call with its check: names the hook in what goes wrong. */
function call<T>(hook: string, invoke: () => unknown, read: (answer: unknown) => T): T {
  let answer: unknown;
  try {
    answer = invoke();
  } catch (thrown) {
    throw new Broken(`${hook} threw ${showThrown(thrown)}`);
  }
  if (answer instanceof Promise && hook !== "shutdown") {
    // Whether it rejects is no news any more.
    answer.catch(() => {});
    throw new Broken(`${hook} answered a promise; nothing waits for it`);
  }
  try {
    return read(answer);
  } catch (thrown) {
    throw new Broken(`${hook} ${thrown instanceof Error ? thrown.message : showThrown(thrown)}`);
  }
}

/** A connector that has its view and its context. */
function start(harness: Harness, options?: Readonly<Record<string, unknown>>): KvConnector {
  const connector = construct(harness, options);
  const { view, context } = harness.createEngine();
  call("bindGpuBlockPool", () => connector.bindGpuBlockPool(view), readNothing);
  call("onSchedulerReady", () => connector.onSchedulerReady(context), readNothing);
  return connector;
}

function construct(harness: Harness, options?: Readonly<Record<string, unknown>>): KvConnector {
  try {
    return harness.create(options);
  } catch (thrown) {
    const Failure = options === undefined ? Unusable : Broken;
    throw new Failure(`its constructor threw ${showThrown(thrown)}`);
  }
}

/** Both ends of what an option allows; a text has none. */
export function endsOf(option: ConnectorOption): readonly (number | boolean | string)[] {
  switch (option.type) {
    case "boolean":
      return [false, true];
    case "choice":
      return option.choices;
    case "text":
      return [];
    default:
      return [option.min, option.max];
  }
}

const PROMPT_BLOCKS = 3;
const BLOCK_SIZE = 16;

const REQUEST: RequestView = {
  id: "conformance-1",
  numPromptTokens: PROMPT_BLOCKS * BLOCK_SIZE + 1,
  numTokens: PROMPT_BLOCKS * BLOCK_SIZE + 1,
  priority: 0,
  arrivalTime: 0,
  transferParams: () => undefined,
  tokenIds: () => new Int32Array(PROMPT_BLOCKS * BLOCK_SIZE + 1),
};
const NO_STEP: Omit<SchedulerOutput, "completed"> = {
  stepId: -1,
  numScheduledTokens: 0,
  numInFlight: 0,
  numAllocatedBlocks: 0,
};
const HASHES: BlockHashes = {
  length: PROMPT_BLOCKS,
  keyOf: (block, group) => `conformance/${block}/${group}`,
};

/** `numBlocks` blocks of one group, all missing; what is marked is kept. */
class Wanted implements WantedBlocks {
  readonly numBlocks: number;
  readonly numDeviceBlocks = 0;
  readonly numGroups = 1;
  readonly blockSize = BLOCK_SIZE;
  readonly marked = new Set<number>();

  constructor(numBlocks: number) {
    this.numBlocks = numBlocks;
  }

  isWanted(block: number, group: number): boolean {
    return block < this.numBlocks && group === 0 && !this.marked.has(block);
  }

  mark(block: number, group: number): void {
    if (!(Number.isInteger(block) && block >= 0 && block < this.numBlocks && group === 0)) {
      throw new Broken(
        `findBlocks marked block ${block} of group ${group}; wanted were ${this.numBlocks} blocks of group 0`,
      );
    }
    this.marked.add(block);
  }
}

function lookUp(connector: KvConnector, numBlocks: number): string {
  const wanted = new Wanted(numBlocks);
  const ask = (): unknown => connector.findBlocks(REQUEST, HASHES, wanted);
  const answer = call("findBlocks", ask, readLookUp);
  return answer ?? `blocks ${[...wanted.marked].sort((a, b) => a - b).join(", ") || "none"}`;
}

export const RULES: readonly Rule[] = [
  {
    name: "is constructed with its defaults, and with each option at either end of its range",
    run(harness): void {
      start(harness);
      for (const [name, option] of Object.entries(harness.description.options)) {
        for (const value of endsOf(option)) {
          try {
            start(harness, { [name]: value });
          } catch (thrown) {
            const why = thrown instanceof Broken ? thrown.message : showThrown(thrown);
            throw new Broken(`with ${name} = ${JSON.stringify(value)} ${why}`);
          }
        }
      }
    },
  },
  {
    name: "says how its options may be, and has help for each",
    run({ description }): void {
      for (const [name, { help }] of Object.entries(description.options)) {
        if (help.trim().length < 10)
          throw new Broken(`the help of ${name} says nothing: "${help}"`);
      }
    },
  },
  {
    name: "answers a look-up in which nothing is wanted",
    run(harness): void {
      lookUp(start(harness), 0);
    },
  },
  {
    name: "answers the same look-up alike each time, since findBlocks changes nothing",
    run(harness): void {
      const connector = start(harness);
      call("onNewRequest", () => connector.onNewRequest(REQUEST), readNothing);
      const answers = [1, 2, 3].map(() => lookUp(connector, PROMPT_BLOCKS));
      const known = answers.filter((answer) => answer !== "pending");
      if (new Set(known).size > 1)
        throw new Broken(`three look-ups in a row were answered by ${answers.join("; ")}`);
    },
  },
  {
    name: "takes an admission with nothing to load",
    run(harness): void {
      const connector = start(harness);
      call("onNewRequest", () => connector.onNewRequest(REQUEST), readNothing);
      const plan = { blocks: [], deadline: 0 };
      const admit = (): unknown => connector.updateStateAfterAlloc(REQUEST, plan);
      call("updateStateAfterAlloc", admit, readNothing);
    },
  },
  {
    name: "takes steps that compute nothing, and blocks that are gone before it looks at them",
    run(harness): void {
      const connector = start(harness);
      for (const completed of [[], [1, 2, 3], []]) {
        const output = { ...NO_STEP, completed };
        call("buildConnectorMeta", () => connector.buildConnectorMeta(output), readNothing);
      }
      call("updateConnectorOutput", () => connector.updateConnectorOutput([]), readNothing);
    },
  },
  {
    name: "takes the end of a request that was never admitted, and one without blocks",
    run(harness): void {
      const connector = start(harness);
      for (const blocks of [[[]], [[0, 0]]]) {
        call("onNewRequest", () => connector.onNewRequest(REQUEST), readNothing);
        call("requestFinished", () => connector.requestFinished(REQUEST, blocks), readParams);
      }
    },
  },
  {
    name: "takes preemptions, pressure and resets while it has nothing",
    run(harness): void {
      const connector = start(harness);
      for (const ids of [[], [REQUEST.id], ["nobody"]]) {
        const areSwapped = ids.map(() => true);
        call("onPreempted", () => connector.onPreempted(ids, areSwapped), readNothing);
      }
      call("onMemoryPressure", () => connector.onMemoryPressure(1, 0), readNothing);
      for (const generation of [1, 2])
        call("resetCache", () => connector.resetCache(generation), readNothing);
    },
  },
  {
    name: "answers takeEvents by events, and stats by numbers",
    run(harness): void {
      const connector = start(harness);
      for (let i = 0; i < 2; i++) {
        call("takeEvents", () => connector.takeEvents(), readEvents);
        call("stats", () => connector.stats(), readStats);
      }
    },
  },
  {
    name: "ends in good time",
    async run(harness): Promise<void> {
      const connector = start(harness);
      const deadline = harness.createEngine().context.now() + 1000;
      const ending = call("shutdown", () => connector.shutdown(deadline), readEnding);
      if (ending !== undefined && !(await harness.settles(ending)))
        throw new Broken("what shutdown promised does not come");
    },
  },
];
