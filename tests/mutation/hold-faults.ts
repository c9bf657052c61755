/** Faults in what connectors may see and hold of the pool, and in blocks in flight. */

import type { Fault } from "./plan.ts";

const FLIGHTS = "tests/unit/cache/flights.test.ts";
const LEASES = "tests/unit/cache/leases.test.ts";
const HOSTILE = "tests/unit/cache/hostile-connector.test.ts";
const VIEW = "tests/unit/cache/gpu-block-pool-view.test.ts";
const MODEL = "tests/unit/cache/connector-blocks-model.test.ts";

export const HOLD_FAULTS: readonly Fault[] = [
  {
    name: "handed-out-in-flight",
    breaks: "a block is handed out and written on while its pages are being copied",
    file: "engine/cache/free-queue.ts",
    from: "      if (!this.isFlying(id)) {\n",
    to: "      if (id > 0) {\n",
    tests: [FLIGHTS],
  },
  {
    name: "first-flight-ends-all",
    breaks: "a block that two connectors copy is handed out when the first of them has it",
    file: "engine/cache/free-queue.ts",
    from: "    const flights = (this.#flights[id] as number) - 1;\n",
    to: "    const flights = 0;\n",
    tests: [FLIGHTS],
  },
  {
    name: "freed-in-flight-counts-as-free",
    breaks: "more blocks are promised than can be handed out",
    file: "engine/cache/free-queue.ts",
    from: "    if (this.isFlying(id)) this.#numFlying++;\n",
    to: "",
    tests: [FLIGHTS],
  },
  {
    name: "flying-hit-uses-up-a-block",
    breaks: "a request whose cached blocks are being copied is kept out though it fits",
    file: "engine/cache/match.ts",
    from: "if (this.#pool.isFree(id)) match.numFreeHits++;",
    to: "if (this.#pool.references(id) === 0) match.numFreeHits++;",
    tests: [FLIGHTS],
  },
  {
    name: "lost-cursor",
    breaks: "a scan whose block was handed out goes on from wherever that block is now",
    file: "engine/cache/queue-cursor.ts",
    from: "    if (id === this.at) this.at = previous;\n",
    to: "",
    tests: [VIEW, MODEL],
  },
  {
    name: "given-twice-in-a-pass",
    breaks: "a scan that frees what it is given never ends",
    file: "engine/cache/queue-cursor.ts",
    from: "    if (this.#seen[id] === this.#pass) return false;\n",
    to: "",
    tests: [VIEW],
  },
  {
    name: "seen-a-step-early",
    breaks: "a connector copies a block that the step at work is about to fill",
    file: "engine/cache/committed-content.ts",
    from: "pool.publishedStep(id) <= this.#committedStep();",
    to: "pool.publishedStep(id) <= this.#committedStep() + 1;",
    tests: [VIEW],
  },
  {
    name: "held-a-step-early",
    breaks: "a connector holds a block that a failing step will withdraw",
    file: "engine/cache/committed-content.ts",
    from: "pool.publishedStep(id) <= this.#committedStep();",
    to: "pool.publishedStep(id) <= this.#committedStep() + 1;",
    tests: [HOSTILE],
  },
  {
    name: "mark-outlives-its-content",
    breaks: "a block with new content counts as copied, and is lost when it is evicted",
    file: "engine/cache/safe-marks.ts",
    from: "this.#generations[id] === this.#pool.generation(id) && ",
    to: "",
    tests: [VIEW],
  },
  {
    name: "anothers-hold-freed",
    breaks: "a connector frees what a request holds",
    file: "engine/cache/touches.ts",
    from: "missing ??= id;",
    to: "missing ??= undefined;",
    tests: [HOSTILE],
  },
  {
    name: "no-tombstone",
    breaks: "who frees a touch that has expired frees a newer one in its stead",
    file: "engine/cache/touches.ts",
    from: "      this.#tombstones[id] = (this.#tombstones[id] as number) + 1;\n",
    to: "",
    tests: [HOSTILE],
  },
  {
    name: "refused-hold-is-counted",
    breaks: "a connector that was refused once can hold nothing from then on",
    file: "engine/cache/holdings.ts",
    from: "      for (const id of ids) this.#change(id, -1);\n",
    to: "",
    tests: [HOSTILE],
  },
  {
    name: "held-under-pressure",
    breaks: "a recalled lease is taken again before it ends, and requests starve",
    file: "engine/cache/leases.ts",
    from: "if (ids.length > 0 && isPressed())",
    to: "if (ids.length < 0 && isPressed())",
    tests: [HOSTILE],
  },
  {
    name: "renewed-after-recall",
    breaks: "a recall has no end, and requests starve",
    file: "engine/cache/leases.ts",
    from: "if (lease.place < 0 || now >= lease.recalledAt) return false;",
    to: "if (lease.place < 0) return false;",
    tests: [LEASES],
  },
  {
    name: "held-past-the-deadline",
    breaks: "a lease lives on at its deadline",
    file: "engine/cache/leases.ts",
    from: "lease !== undefined && lease.expiresAt <= now;",
    to: "lease !== undefined && lease.expiresAt < now;",
    tests: [LEASES],
  },
  {
    name: "disabled-connector-holds",
    breaks: "what a disabled connector has touched is never free again",
    file: "engine/cache/leases.ts",
    from: "    this.#holdings.drop(Int32Array.from(this.#touches.clear()));\n",
    to: "    this.#touches.clear();\n",
    tests: [LEASES],
  },
];
