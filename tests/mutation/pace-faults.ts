/** Faults that no answer shows: in pace, in numbers, and in who waits for whom. */

import type { Fault } from "./plan.ts";

const BUDGETS = "tests/unit/scheduler/budgets.test.ts";
const ONE_ANSWER = "tests/unit/scheduler/one-answer.test.ts";
const PARKED = "tests/unit/scheduler/parked.test.ts";
const PREFIX_CACHE = "tests/unit/scheduler/prefix-cache.test.ts";
const TIMING = "tests/unit/scheduler/timing.test.ts";

export const PACE_FAULTS: readonly Fault[] = [
  {
    name: "all-wait-for-drafts",
    breaks: "while one request's drafts are verified nobody has a row",
    file: "engine/scheduler/scheduler.ts",
    from: "    const batch = this.#idleBatches.pop() ??",
    to: "    for (let one = this.#live.running.first; one !== undefined; one = one.next)\n      if (one.verifying) return undefined;\n    const batch = this.#idleBatches.pop() ??",
    tests: [BUDGETS],
  },
  {
    name: "silent-drafter-waits",
    breaks:
      "a request that drafts nothing waits for each of its tokens before it gets the next row",
    file: "engine/scheduler/step-planner.ts",
    from: "return drafter.mayPropose() ? undefined : NO_DRAFT;",
    to: "return undefined;",
    tests: [BUDGETS],
  },
  {
    name: "streams-by-rows",
    breaks: "a prompt takes the whole step while the drafts of the only stream are in flight",
    file: "engine/scheduler/step-planner.ts",
    from: "return this.#sizer.size(this.#numStreams, ceiling, {",
    to: "return this.#sizer.size(numDecodes, ceiling, {",
    tests: [BUDGETS],
  },
  {
    name: "drafted-steps-teach-nothing",
    breaks: "where every step has drafts it is never known what a prompt token costs",
    file: "engine/scheduler/scheduler.ts",
    from: "    if (result.error === undefined) {\n      this.#sizer",
    to: "    if (result.error === undefined && batch.drafts.length === 0) {\n      this.#sizer",
    tests: [BUDGETS],
  },
  {
    name: "drafts-preempt",
    breaks: "a guess takes blocks from a request that runs",
    file: "engine/scheduler/step-planner.ts",
    from: "return growth <= kv.pool.numFree ? draft : NO_DRAFT;",
    to: "return growth < Infinity ? draft : NO_DRAFT;",
    tests: [BUDGETS],
  },
  {
    name: "no-block-left-to-the-running",
    breaks:
      "a prompt takes the last free blocks, and those who run preempt each other for the next",
    file: "engine/scheduler/admission.ts",
    from: "numReservedBlocks - soon;",
    to: "numReservedBlocks - 0 * soon;",
    tests: [BUDGETS],
  },
  {
    name: "nobody-parks",
    breaks:
      "requests of one burst compute the same blocks beside each other, or crowd the queue's head",
    file: "engine/scheduler/admission.ts",
    from: "    if (numHits >= maxBlocks) return false;\n",
    to: "    if (numHits >= 0) return false;\n",
    tests: [PARKED],
  },
  {
    name: "choices-in-the-queue",
    breaks: "a crowd of choices is looked at in every step before anybody behind it",
    file: "engine/scheduler/admission.ts",
    from: '      this.#live.park(head, leader, leader.numPromptTokens);\n      return "parked";\n',
    to: '      return "aside";\n',
    tests: [PARKED],
  },
  {
    name: "parked-to-the-end",
    breaks: "a request with a short common part waits for the whole of a long prompt",
    file: "engine/scheduler/live-sequences.ts",
    from: "of.prefilling && of.numSubmittedTokens < numTokens) continue;",
    to: "of.prefilling && numTokens > 0) continue;",
    tests: [PARKED],
  },
  {
    name: "parked-for-a-scored-prompt",
    breaks: "a request waits for one whose prompt takes a few tokens a step",
    file: "engine/scheduler/admission.ts",
    from: "!this.#isScored(match, numOlder)",
    to: "(numOlder >= 0 || !this.#isScored(match, numOlder))",
    tests: [PARKED],
  },
  {
    name: "scores-take-all-samples",
    breaks: "while a long prompt is scored nobody is let in",
    file: "engine/scheduler/step-planner.ts",
    from: "Math.min(most, Math.max(1, most - numOthers))",
    to: "Math.min(most, Math.max(1, most - 0 * numOthers))",
    tests: [PARKED],
  },
  {
    name: "found-in-this-step-at-the-window",
    breaks:
      "a request that does not wait for a scored prompt reads a block in the step that fills it",
    file: "engine/scheduler/admission.ts",
    from: "    while (match.newestStep === batch.stepId) {\n",
    to: "    if (match.newestStep === batch.stepId) {\n",
    tests: [PARKED, ONE_ANSWER],
  },
  {
    name: "long-head-looked-at-again",
    breaks: "a long prompt that waits for room costs its length in every step",
    file: "engine/scheduler/admission.ts",
    from: "return Math.max(0, refusal.missing - gained - (this.#room() - refusal.room));",
    to: "return Math.min(0, refusal.missing - gained);",
    tests: ["tests/unit/scheduler/work.test.ts"],
  },
  {
    name: "gains-forgotten",
    breaks:
      "a request waits for room that it needs no more, because others have published its blocks",
    file: "engine/scheduler/admission.ts",
    from: "const gained = (kv.pool.numGains - refusal.gains) * kv.groups.length;",
    to: "const gained = 0 * (kv.pool.numGains - refusal.gains);",
    tests: [PARKED],
  },
  {
    name: "shared-leaving-blocks-forgotten",
    breaks: "a request is preempted for blocks that are about to become free",
    file: "engine/scheduler/live-sequences.ts",
    from: "if (pool.references(id) === times) count++;",
    to: "if (pool.references(id) === 1) count++;",
    tests: ["tests/unit/scheduler/in-flight.test.ts"],
  },
  {
    name: "found-counts-as-cached",
    breaks: "tokens that were found, lost again and computed count as cached",
    file: "engine/scheduler/step-committer.ts",
    from: "    sequence.numCachedTokens = numPromptTokens - computed.size;\n",
    to: "    sequence.numCachedTokens = Math.max(sequence.numCachedTokens, numPromptTokens - computed.size);\n",
    tests: [PREFIX_CACHE],
  },
  {
    name: "cached-tokens-untold",
    breaks: "usage of a stream says nothing of cached tokens before its end",
    file: "engine/scheduler/step-committer.ts",
    from: "      if (sequence.cacheReceipt !== undefined)\n        events.cached(",
    to: "      if (sequence.cacheReceipt !== undefined && sequence.numTokens < 0)\n        events.cached(",
    tests: [PREFIX_CACHE],
  },
  {
    name: "drafted-block-unpublished",
    breaks: "the next turn computes the last block of an answer again",
    file: "engine/scheduler/prompt-hasher.ts",
    from: "      done(sequence);\n",
    to: "",
    tests: [PREFIX_CACHE],
  },
  {
    name: "decode-from-arrival",
    breaks: "the time in the queue and in the prompt counts as decode time",
    file: "engine/scheduler/live-sequences.ts",
    from: "    decode: lastTokenAt - firstTokenAt,",
    to: "    decode: lastTokenAt - arrivedAt,",
    tests: [TIMING],
  },
  {
    name: "never-queued",
    breaks: "the time in the queue is reported as 0",
    file: "engine/scheduler/live-sequences.ts",
    from: "    queued: startedAt - arrivedAt,\n    prefill: firstTokenAt",
    to: "    queued: 0,\n    prefill: firstTokenAt",
    tests: [TIMING],
  },
  {
    name: "told-before-the-device",
    breaks: "the device idles while readers are told of the last step",
    file: "engine/engine.ts",
    from: "        // The device gets its next step before anybody reads about the last one.\n        this.#fill();\n",
    to: "",
    tests: ["tests/unit/engine/engine.test.ts"],
  },
  {
    name: "numbers-with-tokens-only",
    breaks:
      "running, waiting and used blocks are those of the last token while prompts are computed",
    file: "engine/engine.ts",
    from: "    this.#publish(NO_EVENTS);\n",
    to: "",
    tests: ["tests/unit/engine/engine.test.ts"],
  },
  {
    name: "step-ids-of-31-bits",
    breaks: "after some weeks no result finds its step, and the engine stands still",
    file: "engine/runner/native-runner.ts",
    from: "stepWord(slot.stepId) === result.stepId",
    to: "slot.stepId === result.stepId",
    tests: ["tests/unit/scheduler/step-ids.test.ts"],
  },
  {
    name: "published-steps-of-32-bits",
    breaks: "after some weeks a failed step withdraws nothing, or what it has not published",
    file: "engine/cache/block-map.ts",
    from: "return upper * 2 ** 32 + (",
    to: "return 0 * upper + (",
    tests: ["tests/unit/scheduler/step-ids.test.ts"],
  },
];
