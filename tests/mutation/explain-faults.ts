/** Faults of what is said about requests: each would be a claim that is not so, or somebody told who should not be. */

import type { Fault } from "./plan.ts";

const MODEL = "tests/unit/explain/explain-model.test.ts";
const REMOVALS = "tests/unit/explain/removals.test.ts";
const RUNS = "tests/unit/explain/prompt-runs.test.ts";
const SERVER = "tests/unit/server/explain.test.ts";

export const EXPLAIN_FAULTS: readonly Fault[] = [
  {
    name: "evicted-afterwards",
    breaks: "a block that was evicted after the request had come is named as what it missed",
    file: "engine/cache/removals.ts",
    from: "    const newest = Math.min(before, this.total);\n",
    to: "    const newest = this.total;\n",
    tests: [REMOVALS, MODEL],
  },
  {
    name: "ring-remembers-too-much",
    breaks: "what the ring has overwritten counts as known, so that a forgotten eviction is denied",
    file: "engine/cache/removals.ts",
    from: "    return Math.max(0, this.total - this.capacity);\n",
    to: "    return Math.max(0, this.total - this.capacity - 1);\n",
    tests: [REMOVALS, MODEL],
  },
  {
    name: "evicted-by-the-one-before",
    breaks: "the request that took a block while it loaded is not the one that is named",
    file: "engine/cache/kv-cache.ts",
    from: "    match.owner = undefined;\n    this.taker = blocks.owner;\n",
    to: "    match.owner = undefined;\n",
    tests: [REMOVALS],
  },
  {
    name: "answer-of-a-running-request",
    breaks: "tokens count that the other request had not been answered yet",
    file: "engine/explain/compare.ts",
    from: "isBeside(other, request) ? other.numPromptTokens : other.numTokens",
    to: "other.numTokens",
    tests: [MODEL],
  },
  {
    name: "compared-across-salts",
    breaks: "a request under one salt is told what there is under another",
    file: "engine/explain/compare.ts",
    from: " || other.cacheSalt !== request.cacheSalt",
    to: "",
    tests: [MODEL],
  },
  {
    name: "never-stored-for-all-one-knows",
    breaks: "what is not remembered is said never to have been",
    file: "engine/explain/miss.ts",
    from: '  if (!knowsAllRemovals) return "unknown";\n',
    to: "",
    tests: [MODEL],
  },
  {
    name: "last-admission-counts",
    breaks: "a preempted request is explained by what it found the second time",
    file: "engine/explain/recent-requests.ts",
    from: "    request.admission ??= {\n",
    to: "    request.admission = {\n",
    tests: [MODEL],
  },
  {
    name: "evicted-and-not-used",
    breaks: "an old eviction is told of a block that was found and not used",
    file: "engine/explain/prompt-runs.ts",
    from: "kv.groups.length === 1 && admission?.usesAll === true",
    to: "kv.groups.length === 1 && admission !== undefined",
    tests: [RUNS],
  },
  {
    name: "evicted-and-offered",
    breaks: "an old eviction is told of a block that a connector had",
    file: "engine/explain/prompt-runs.ts",
    from: "    admission.numOfferedBlocks === admission.numBlocks\n",
    to: "    admission.numOfferedBlocks >= 0\n",
    tests: [RUNS],
  },
  {
    name: "explained-to-other-keys",
    breaks: "who has another API key is told about a request",
    file: "engine/server/explain/explain-book.ts",
    from: "    return noted?.party === party ? noted : undefined;\n",
    to: "    return noted;\n",
    tests: [SERVER],
  },
  {
    name: "explained-by-a-chosen-id",
    breaks: "an id that a client chose, and others may guess, opens the explanation",
    file: "engine/server/explain/endpoint.ts",
    from: 'c.get("isDrawnId") ? c.get("requestId") : undefined',
    to: 'c.get("requestId")',
    tests: [SERVER],
  },
  {
    name: "guessed-place",
    breaks: "a place is told in a conversation that the template renders differently by now",
    file: "engine/server/explain/place.ts",
    from: "  if (!all.subarray(0, bytes.length).equals(bytes)) return undefined;\n",
    to: "",
    tests: ["tests/unit/explain/rendering.test.ts"],
  },
];
