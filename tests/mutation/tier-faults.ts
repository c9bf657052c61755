/** Faults of what moves blocks to tiers and back. */

import type { Fault } from "./plan.ts";

const TIERS = "tests/connectors/tiers.test.ts";
const ONE_ANSWER = "tests/connectors/tiers-one-answer.test.ts";
const JS_PORT = "tests/native/js-tier-port.test.ts";
const LEVEL = "tests/unit/connectors/tiers/level.test.ts";
const DISK_PORT = "tests/unit/connectors/tiers/disk-port.test.ts";

export const TIER_FAULTS: readonly Fault[] = [
  {
    name: "lent-page-not-taken-away",
    breaks:
      "a tier keeps the memory that it was lent, and writes to it when it has become another page",
    file: "engine/connectors/tiers/js-tier-port.ts",
    from: "const own = this.#copies.revoke(copy);",
    to: "const own: Uint8Array | undefined = copy;",
    tests: [JS_PORT],
  },
  {
    name: "page-of-a-tier-trusted",
    breaks: "a page that is not what was stored counts, since the tier says that it is there",
    file: "engine/connectors/tiers/js-tier-port.ts",
    from: 'if (ended.outcome === "ok") host.setKey(page, key);',
    to: 'if (outcome.outcome === "ok") host.setKey(page, key);',
    tests: [JS_PORT],
  },
  {
    name: "loaded-across-a-reset",
    breaks: "a page that was asked for before a reset counts after it",
    file: "engine/connectors/tiers/js-tier-port.ts",
    from: "epoch !== host.epoch",
    to: "epoch > host.epoch",
    tests: [JS_PORT],
  },
  {
    name: "hung-calls-forgotten",
    breaks: "a tier that hangs is lent more and more memory",
    file: "engine/connectors/tiers/js-tier-port.ts",
    from: 'if ("outcome" in called && result.kind === "late")',
    to: 'if ("outcome" in called && result.kind === "failed")',
    tests: [JS_PORT],
  },
  {
    name: "page-handed-out-while-copied",
    breaks: "a host page is filled with other content while it is copied for a tier",
    file: "engine/connectors/host-pages.ts",
    from: "return this.#flights[page] !== 0 || this.#readers[page] !== 0;",
    to: "return this.#flights[page] !== 0;",
    tests: [JS_PORT],
  },
  {
    name: "gathers-for-ever",
    breaks: "pages that are too few to be stored at once are never stored",
    file: "connectors/tiers/level.ts",
    from: "this.#gathersUntil <= this.#context.now()",
    to: "this.#gathersUntil < 0",
    tests: [LEVEL],
  },
  {
    name: "page-by-page",
    breaks: "a slow tier is given each page by itself, as soon as one may be begun",
    file: "connectors/tiers/level.ts",
    from: "if (this.#waiting.size > numFree) return false;",
    to: "if (this.#waiting.size > numFree) return true;",
    tests: [LEVEL],
  },
  {
    name: "late-page-of-the-disk-counts",
    breaks: "a page that nobody waits for any more is taken for content of its host page",
    file: "engine/connectors/tiers/disk-port.ts",
    from: "isThere && !move.isLate",
    to: "isThere",
    tests: [DISK_PORT],
  },
  {
    name: "all-of-a-move-arrived",
    breaks: "pages that failed count as those of the move that arrived",
    file: "engine/connectors/tiers/disk-port.ts",
    from: "result?.cancelled === false ? result.failedPages : keys.keys()",
    to: "result?.cancelled === false ? [] : keys.keys()",
    tests: [DISK_PORT],
  },
  {
    name: "two-pages-for-a-block",
    breaks:
      "a block that was computed while it waited for its tier has two host pages, of which one is lost",
    file: "connectors/tiers/fetches.ts",
    from: "fetches.filter(({ key }) => !cache.has(key)),",
    to: "fetches,",
    tests: [ONE_ANSWER],
  },
  {
    name: "waits-for-what-has-failed",
    breaks: "a request waits to its deadline for a block whose tier has failed",
    file: "connectors/tiers/fetches.ts",
    from: "if (awaited.length > 0) transfers.giveUp(awaited);",
    to: "",
    tests: [TIERS],
  },
  {
    name: "loaded-for-the-dead",
    breaks:
      "a load of a block is begun whose request has ended, and the connector is disabled for it",
    file: "connectors/tiers/fetches.ts",
    from: "const id = blocks.find((block) => transfers.isAwaited(block, key));",
    to: "const id = blocks[0];",
    tests: [ONE_ANSWER],
  },
  {
    name: "circuit-never-opens",
    breaks: "a tier that always fails is asked for every block",
    file: "connectors/tiers/circuit.ts",
    from: "this.#inARow < failures",
    to: "this.#inARow < 1e9 * failures",
    tests: ["tests/unit/connectors/tiers/circuit.test.ts"],
  },
  {
    name: "tier-at-any-price",
    breaks: "requests wait for a slow tier when computing is quicker",
    file: "engine/connectors/tiers/tier-side.ts",
    from: "if (rates.latencyMs + loadMs > ",
    to: "if (rates.latencyMs + loadMs > 1e9 * ",
    tests: [TIERS],
  },
  {
    name: "store-not-tried-again",
    breaks: "one failure of a tier loses the block",
    file: "connectors/tiers/level.ts",
    from: "attempts < this.port.driving.retries",
    to: "attempts < 0",
    tests: [TIERS],
  },
  {
    name: "written-back-at-no-time",
    breaks: "what leaves host pages is lost where tiers are written back",
    file: "connectors/tiers/level.ts",
    from: "this.#wait(this.#host.cache.coldest(BACK_WINDOW));",
    to: "this.#wait([]);",
    tests: [TIERS],
  },
  {
    name: "answers-of-before-a-reset",
    breaks: "a tier's answer from before a reset is believed after it",
    file: "connectors/tiers/level.ts",
    from: "    this.#presence.clear();\n",
    to: "",
    tests: [TIERS],
  },
  {
    name: "loads-of-an-unknown-disk",
    breaks: "the first loads of a slow disk are believed to be quick, although its stores are slow",
    file: "engine/connectors/tiers/tier-rates.ts",
    from: "return this.#known ?? this.#ofStores ?? FIRST_BYTES_PER_SECOND;",
    to: "return this.#known ?? FIRST_BYTES_PER_SECOND;",
    tests: ["tests/unit/connectors/tiers/tier-rates.test.ts"],
  },
  {
    name: "rate-of-what-came-at-once",
    breaks: "pages that come together count as if each had taken no time",
    file: "engine/connectors/tiers/tier-rates.ts",
    from: "if (this.#numLoading === 0 && arrived >= LEAST_PAGES) this.#observe(arrived, ms);",
    to: "if (this.#numLoading === 0 && arrived >= LEAST_PAGES) this.#observe(arrived, 0);",
    tests: ["tests/unit/connectors/tiers/tier-rates.test.ts"],
  },
];
