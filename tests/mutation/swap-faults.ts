/** Faults of swaps: preempted requests that are computed again in vain, and those who wait for copies in vain. */

import type { Fault } from "./plan.ts";

const SWAP = "tests/connectors/swap.test.ts";
const COST = "tests/unit/connectors/swap-cost.test.ts";

export const SWAP_FAULTS: readonly Fault[] = [
  {
    name: "swap-refused-under-pressure",
    breaks: "blocks of a preempted request are not stored, since requests lack blocks",
    file: "engine/connectors/flights.ts",
    from: "if (this.isPressed && !this.isSwapping) return 0;",
    to: "if (this.isPressed) return 0;",
    tests: [SWAP],
  },
  {
    name: "swap-cancelled",
    breaks: "who lacks blocks cancels the copies that were just begun for it",
    file: "engine/connectors/flights.ts",
    from: "return swapUntil !== undefined && !isCancelled && this.#now() < swapUntil;",
    to: "return swapUntil !== undefined && !isCancelled && this.#now() < 0;",
    tests: [SWAP],
  },
  {
    name: "swap-waited-for-ever",
    breaks: "a copy that does not begin holds up who lacks its blocks",
    file: "engine/connectors/flights.ts",
    from: "return swapUntil !== undefined && !isCancelled && this.#now() < swapUntil;",
    to: "return swapUntil !== undefined && !isCancelled;",
    tests: [SWAP],
  },
  {
    name: "swap-of-what-stays",
    breaks: "blocks are copied that nobody takes",
    file: "engine/connectors/swap-cost.ts",
    from: "const computeMs = shareTaken * numTokens * cost.msPerPromptToken;",
    to: "const computeMs = numTokens * cost.msPerPromptToken;",
    tests: [COST],
  },
];
