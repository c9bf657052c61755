/** Faults of what moves blocks: loads, stores, what is promised, and whose content arrives. */

import type { Fault } from "./plan.ts";

const LYING = "tests/connectors/lying.test.ts";
const JOINED = "tests/connectors/joined-loads.test.ts";
const MOMENTS = "tests/connectors/flight-moments.test.ts";
const PARTIAL = "tests/connectors/partial-loads.test.ts";
const STORES = "tests/connectors/stores.test.ts";
const TRANSFERS = "tests/connectors/transfers.test.ts";

export const CONNECTOR_FAULTS: readonly Fault[] = [
  {
    name: "copied-a-step-early",
    breaks: "a block is copied before the step that fills it has committed",
    file: "engine/connectors/kv-connectors.ts",
    from: "kv.pool.publishedStep(id) > committedStep() ? undefined",
    to: "kv.pool.publishedStep(id) > committedStep() + 9 ? undefined",
    tests: [TRANSFERS],
  },
  {
    name: "target-given-away-in-flight",
    breaks:
      "the request that a load is for ends, and its blocks are handed out while they are written",
    file: "engine/connectors/flights.ts",
    from: "      pool.touch(blocks, blocks.length);\n",
    to: "      pool.touch(blocks, 0);\n",
    tests: [MOMENTS],
  },
  {
    name: "store-not-hurried",
    breaks: "a request waits for blocks whose copy has begun as long as the device is busy",
    file: "engine/connectors/flights.ts",
    from: "if (!this.cancel(flight)) this.#hurry(flight);",
    to: "this.cancel(flight);",
    tests: [MOMENTS],
  },
  {
    name: "stored-while-all-fits",
    breaks: "blocks are stored beside steps although many are left that never held content",
    file: "connectors/cpu-offload.ts",
    from: "this.#roomy === undefined ? WINDOWS_OF_LOOK : 1",
    to: "WINDOWS_OF_LOOK",
    tests: ["tests/connectors/cpu-offload.test.ts"],
  },
  {
    name: "key-of-another-group",
    breaks: "a block of the window is stored under the key of the full group",
    file: "engine/cache/block-keys.ts",
    from: "    const key = blockKey(hash, 0, group);\n",
    to: "    const key = blockKey(hash, 0, 0);\n",
    tests: [PARTIAL],
  },
  {
    name: "joiner-not-woken",
    breaks: "of the requests that wait for a block only the first goes on",
    file: "engine/connectors/loads.ts",
    from: "for (const { sequence, block } of waiters.splice(0)) {",
    to: "for (const { sequence, block } of waiters.splice(0, 1)) {",
    tests: [JOINED],
  },
  {
    name: "second-load-of-a-content",
    breaks: "a request whose blocks are all on their way for others computes them",
    file: "engine/connectors/kv-connectors.ts",
    from: "numToLoad + numLoading === 0",
    to: "numToLoad === 0",
    tests: [JOINED],
  },
  {
    name: "old-generation-published",
    breaks: "what was loading when the cache was reset is found afterwards",
    file: "engine/connectors/loads.ts",
    from: "if (isStale || failed.has(i)) lost.push(loading);",
    to: "if (failed.has(i)) lost.push(loading);",
    tests: [MOMENTS],
  },
  {
    name: "failed-page-published",
    breaks: "a block whose page did not arrive counts as content",
    file: "engine/connectors/loads.ts",
    from: "if (isStale || failed.has(i)) lost.push(loading);",
    to: "if (isStale) lost.push(loading);",
    tests: [PARTIAL],
  },
  {
    name: "page-freed-in-flight",
    breaks: "a page is handed out to others while it is being filled",
    file: "engine/connectors/host-pages.ts",
    from: "      if (this.isInUse(page)) this.#leaving.add(page);\n",
    to: "      if (page < 0) this.#leaving.add(page);\n",
    tests: [TRANSFERS],
  },
  {
    name: "any-page-loaded",
    breaks: "a connector can load a page as what it does not hold",
    file: "engine/connectors/loads.ts",
    from: "if (this.#pages.keyOf(page) !== loading.key)",
    to: "if (this.#pages.keyOf(page) === undefined)",
    tests: [LYING],
  },
  {
    name: "waits-for-a-broken-promise",
    breaks: "a request waits for ever for blocks that a connector does not load",
    file: "engine/connectors/loads.ts",
    from: "this.drop(({ deadline }) => deadline <= now)",
    to: "this.drop(({ deadline }) => deadline === now + 1)",
    tests: [LYING],
  },
  {
    name: "asked-again-at-once",
    breaks: "a connector that never brings what it promises makes every request wait",
    file: "engine/connectors/backoffs.ts",
    from: "    return now < this.#at(connector).until;\n",
    to: "    return now < this.#at(connector).until - 1e9;\n",
    tests: [LYING],
  },
  {
    name: "held-anew-between-recalls",
    breaks: "connectors take turns at what becomes free, and a request waits for ever",
    file: "engine/connectors/ledgers.ts",
    from: "isPressed: () => this.#isRecalling() || this.#isLacking || this.#wasLacking,",
    to: "isPressed: () => this.#isRecalling(),",
    tests: ["tests/connectors/starvation.test.ts"],
  },
  {
    name: "end-without-the-last-block",
    breaks: "the block that a request's last step completes is not there for connectors at its end",
    file: "engine/scheduler/step-committer.ts",
    from: "    this.#keepBlocks(sequence, batch.stepId);\n    this.#live.finish(",
    to: "    this.#live.finish(",
    tests: [STORES],
  },
  {
    name: "window-without-latency",
    breaks: "lazy stores begin too late, and blocks are evicted before they have a copy",
    file: "connectors/eviction-window.ts",
    from: "Math.min(Math.ceil(copySteps) + SPARE_STEPS, ",
    to: "Math.min(1, ",
    tests: ["tests/unit/connectors/eviction-window.test.ts", STORES],
  },
  {
    name: "stored-without-a-copy",
    breaks: "a page of which the store has failed counts as a copy",
    file: "connectors/cpu-offload.ts",
    from: "if (failed.has(blocks[i] as BlockId)) this.#host.drop(key);\n",
    to: "if (failed.has(blocks[i] as BlockId)) stored.push(key);\n",
    tests: ["tests/connectors/cpu-offload.test.ts", "tests/connectors/one-answer.test.ts"],
  },
  {
    name: "page-of-a-hung-load-offered",
    breaks: "a connector is disabled because a load of its page hangs",
    file: "engine/connectors/block-offers.ts",
    from: "return givenUp.size === 0 || ",
    to: "return givenUp.size >= 0 || ",
    tests: [JOINED],
  },
  {
    name: "waits-behind-a-failed-step",
    breaks: "who waits for a load reads blocks that a failed step was to fill",
    file: "engine/scheduler/step-committer.ts",
    from: "    this.#recomputeWaiting(damaged, failedStep);\n",
    to: "",
    tests: ["tests/connectors/failed-steps.test.ts"],
  },
  {
    name: "load-at-any-price",
    breaks: "a request waits for a load when computing is quicker",
    file: "engine/connectors/load-cost.ts",
    from: "const loads = allLoaded <= allComputed;",
    to: "const loads = allLoaded < Infinity;",
    tests: ["tests/unit/connectors/load-cost.test.ts"],
  },
];
