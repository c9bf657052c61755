/** Faults of pins: content that goes although it is kept, or that is kept for nobody. */

import type { Fault } from "./plan.ts";

const RETAINED = "tests/unit/connectors/retained.test.ts";
const ORDER = "tests/unit/connectors/page-cache.test.ts";
const PAGES = "tests/connectors/pinned-pages.test.ts";

export const PIN_FAULTS: readonly Fault[] = [
  {
    name: "pinned-page-forgotten",
    breaks: "a pinned page is given to others like any",
    file: "connectors/page-cache.ts",
    from: "if (pins === 0 && (chances > 0 || isRetained(key))) {",
    to: "if (pins === 0 && chances > 0) {",
    tests: [PAGES, ORDER],
  },
  {
    name: "weight-that-lasts",
    breaks: "content of an urgent request is never forgotten",
    file: "connectors/page-cache.ts",
    from: "entry.chances = Math.max(0, chances - 1);",
    to: "entry.chances = chances;",
    tests: [ORDER],
  },
  {
    name: "weight-of-nobody",
    breaks: "what an urgent request used goes like any other content",
    file: "connectors/page-cache.ts",
    from: "if (entry !== undefined) entry.chances = Math.max(entry.chances, Math.min(weight, MOST_WEIGHT));",
    to: "if (entry !== undefined) entry.chances = 0;",
    tests: [ORDER],
  },
  {
    name: "pinned-pages-can-be-had",
    breaks: "a store counts on pages that are pinned",
    file: "connectors/host-level.ts",
    from: "Math.max(0, size - numPinned - this.#context.numRetained)",
    to: "Math.max(0, size - numPinned)",
    tests: [ORDER],
  },
  {
    name: "pin-without-end",
    breaks: "a pin outlives its time",
    file: "engine/connectors/retained.ts",
    from: "if (pin.endsAt <= now) this.#end(pin);",
    to: "if (pin.endsAt < 0) this.#end(pin);",
    tests: [RETAINED],
  },
  {
    name: "pin-budget-exceeded",
    breaks: "pins may keep more pages than the server was told",
    file: "engine/connectors/retained.ts",
    from: "    if (numNew > left) {",
    to: "    if (numNew > this.budget) {",
    tests: [RETAINED],
  },
  {
    name: "pin-of-another",
    breaks: "one API key ends the pins of another",
    file: "engine/connectors/retained.ts",
    from: "if (pin === undefined || pin.owner !== owner) return undefined;",
    to: "if (pin === undefined) return undefined;",
    tests: [RETAINED],
  },
];
