/** The faults that `mutate.ts` plants: small, plausible mistakes in what decides over blocks and steps. */

import { API_FAULTS } from "./api-faults.ts";
import { CONNECTOR_FAULTS } from "./connector-faults.ts";
import { EXPLAIN_FAULTS } from "./explain-faults.ts";
import { GRAMMAR_FAULTS } from "./grammar-faults.ts";
import { HOLD_FAULTS } from "./hold-faults.ts";
import { PACE_FAULTS } from "./pace-faults.ts";
import { PIN_FAULTS } from "./pin-faults.ts";
import { SESSION_FAULTS } from "./session-faults.ts";
import type { Fault } from "./plan.ts";
import { SWAP_FAULTS } from "./swap-faults.ts";
import { TIER_FAULTS } from "./tier-faults.ts";

const ONE_ANSWER = "tests/unit/scheduler/one-answer.test.ts";
const PREFIX_CACHE = "tests/unit/scheduler/prefix-cache.test.ts";
const HELD_BLOCKS = "tests/unit/scheduler/held-blocks.test.ts";

const CACHE_FAULTS: readonly Fault[] = [
  {
    name: "missed-reference",
    breaks: "the last block of a found prefix gets no reference and may be handed out to others",
    file: "engine/cache/kv-cache.ts",
    from: "    this.pool.touch(scratch, count);\n",
    to: "    this.pool.touch(scratch, Math.max(0, count - 1));\n",
    tests: [PREFIX_CACHE],
  },
  {
    name: "shared-block-freed",
    breaks: "the first holder to let go of a shared block frees it for all",
    file: "engine/cache/block-pool.ts",
    from: "      state[at] = (state[at] as number) - 1;\n",
    to: "      state[at] = 0;\n",
    tests: ["tests/unit/cache/block-pool.test.ts"],
  },
  {
    name: "evicted-from-the-head",
    breaks:
      "of a sequence's cached blocks the first is evicted first, and the rest are worth nothing",
    file: "engine/cache/free-queue.ts",
    from: "    for (let i = count - 1; i >= 0; i--) {\n",
    to: "    for (let i = 0; i < count; i++) {\n",
    tests: ["tests/unit/cache/block-pool.test.ts"],
  },
  {
    name: "cached-evicted-first",
    breaks: "a freed block with content is evicted before those without, and before older ones",
    file: "engine/cache/free-queue.ts",
    from: "const previous = isHashed ? (state[end * WORDS + PREVIOUS] as number) : front;\n      const next = isHashed ? end : (",
    to: "const previous = front;\n      const next = (",
    tests: ["tests/unit/cache/block-pool.test.ts"],
  },
  {
    name: "evicted-block-still-found",
    breaks: "a block that was handed out again is found by the hash of what it held before",
    file: "engine/cache/block-pool.ts",
    from: "        this.#map.remove(ids[i] as number);\n",
    to: "",
    tests: ["tests/unit/cache"],
  },
  {
    name: "groups-share-keys",
    breaks: "a window group finds a block of the full group: the KV of other layers",
    file: "engine/cache/publish.ts",
    from: "pool.insert(id, hashes, block * HASH_WORDS, group, stepId);",
    to: "pool.insert(id, hashes, block * HASH_WORDS, 0, stepId);",
    tests: ["tests/unit/cache"],
  },
  {
    name: "window-one-short",
    breaks: "the oldest position that a window still sees is freed when it lies alone in its block",
    file: "engine/cache/block-group.ts",
    from: "Math.max(0, position - spec.window + 1)",
    to: "Math.max(0, position - spec.window + 2)",
    tests: ["tests/unit/cache", ONE_ANSWER],
  },
  {
    name: "prefix-without-its-window",
    breaks: "a prefix counts as found though a window group lacks a block behind its boundary",
    file: "engine/cache/block-group.ts",
    from: "return Math.max(1, Math.ceil((spec.window - 1) / blockSize));",
    to: "return Math.max(1, Math.floor((spec.window - 1) / blockSize));",
    tests: ["tests/unit/cache", ONE_ANSWER],
  },
  {
    name: "copy-left-out",
    breaks: "a forked sequence writes on in a block that nobody filled",
    file: "engine/cache/fork.ts",
    from: "    if (!isCopied) continue;\n",
    to: "    if (last >= 0) continue;\n",
    tests: ["tests/unit/scheduler/choices.test.ts"],
  },
  {
    name: "copied-block-not-held",
    breaks: "the source of a copy may be handed out before the copy has run",
    file: "engine/cache/fork.ts",
    from: "    pool.touch(source.subarray(last), 1);\n",
    to: "",
    tests: ["tests/unit/cache", "tests/unit/scheduler/choices.test.ts"],
  },
  {
    name: "withdrawn-block-still-found",
    breaks: "a block of a failed step is forgotten by its sequence and still found by others",
    file: "engine/cache/publish.ts",
    from: "      pool.unhash(id);\n",
    to: "",
    tests: ["tests/unit/cache"],
  },
  {
    name: "old-generation-publishes",
    breaks: "a request from before a reset brings back what the reset dropped",
    file: "engine/cache/kv-cache.ts",
    from: "if (!this.prefixCaching || blocks.generation !== this.#generation) return;",
    to: "if (!this.prefixCaching) return;",
    tests: ["tests/unit/cache", PREFIX_CACHE],
  },
];

const SCHEDULER_FAULTS: readonly Fault[] = [
  {
    name: "wrong-hash-parent",
    breaks: "blocks of an answer are hashed behind the first block, whatever stands between",
    file: "engine/scheduler/prompt-hasher.ts",
    from: "blocks.hashes.subarray((known - 1) * HASH_WORDS, known * HASH_WORDS)",
    to: "blocks.hashes.subarray(0, HASH_WORDS)",
    tests: [PREFIX_CACHE, ONE_ANSWER],
  },
  {
    name: "salt-forgotten",
    breaks: "tenants with different salts share cached blocks",
    file: "engine/scheduler/prompt-hasher.ts",
    from: "const salt = known === 0 ? request.cacheSalt : undefined;",
    to: "const salt = known < 0 ? request.cacheSalt : undefined;",
    tests: [PREFIX_CACHE],
  },
  {
    name: "whole-prompt-from-cache",
    breaks: "no prompt token is computed, so there is nothing to pick from",
    file: "engine/scheduler/admission.ts",
    from: "Math.floor((numTokens - 1) / kv.blockSize)",
    to: "Math.floor(numTokens / kv.blockSize)",
    tests: [PREFIX_CACHE],
  },
  {
    name: "read-in-the-step-that-fills",
    breaks: "a request reads blocks in the very step that fills them",
    file: "engine/scheduler/admission.ts",
    from: "    while (match.newestStep === batch.stepId) {\n",
    to: "    while (match.newestStep > batch.stepId) {\n",
    tests: [PREFIX_CACHE, ONE_ANSWER],
  },
  {
    name: "reservation-ignored",
    breaks: "more prompts are let in than fit, and put each other out half-computed",
    file: "engine/scheduler/admission.ts",
    from: "return kv.pool.numFree - numReservedBlocks - soon;",
    to: "return numReservedBlocks < 0 ? 0 : kv.pool.numFree - soon;",
    tests: [HELD_BLOCKS],
  },
  {
    name: "block-reused-a-step-early",
    breaks: "blocks of an ended request are handed out while a submitted step still has them",
    file: "engine/scheduler/live-sequences.ts",
    from: "    if (this.isInFlight(sequence)) this.leaving.add(sequence);\n    else this.#giveBack(sequence);",
    to: "    this.#giveBack(sequence);",
    tests: ["tests/unit/scheduler/scheduler.test.ts"],
  },
  {
    name: "left-with-the-first-of-two-steps",
    breaks:
      "a leaving request gives its blocks back when the first of its steps has committed, not the last",
    file: "engine/scheduler/live-sequences.ts",
    from: "if (sequence.lastStepId !== batch.stepId || !this.leaving.has(sequence)) continue;",
    to: "if (!this.leaving.has(sequence)) continue;",
    tests: ["tests/unit/scheduler/scheduler.test.ts", "tests/unit/scheduler/preemption.test.ts"],
  },
  {
    name: "missed-withdraw",
    breaks: "what a failed step published is found by others, and was never computed",
    file: "engine/scheduler/step-committer.ts",
    from: "      kv.withdraw(sequence.blocks, batch.stepId);\n",
    to: "",
    tests: [PREFIX_CACHE, ONE_ANSWER],
  },
  {
    name: "readers-of-a-failed-step-go-on",
    breaks: "who has read a block of a failed step in a step behind it keeps what came of that",
    file: "engine/scheduler/step-committer.ts",
    from: "    this.#recompute(damaged, batch.stepId);\n",
    to: "",
    tests: [PREFIX_CACHE, ONE_ANSWER],
  },
  {
    name: "void-results-count",
    breaks: "tokens that came of a block that was never computed are given to the client",
    file: "engine/scheduler/step-committer.ts",
    from: 'if (sequence.state === "finished" || batch.stepId <= sequence.voidUntilStep) continue;\n      this.#commitRow(',
    to: 'if (sequence.state === "finished") continue;\n      this.#commitRow(',
    tests: [PREFIX_CACHE, ONE_ANSWER],
  },
  {
    name: "resumed-with-no-samples",
    breaks:
      "a resumed request takes steps past max_tokens, and drafts behind a token it does not know",
    file: "engine/scheduler/live-sequences.ts",
    from: "    sequence.numSubmittedSamples = sequence.numOutputTokens;\n",
    to: "    sequence.numSubmittedSamples = 0;\n",
    tests: ["tests/unit/scheduler/resumed.test.ts"],
  },
  {
    name: "window-freed-by-submitted",
    breaks:
      "a block that left the window of a submitted position is freed before that step has run",
    file: "engine/scheduler/step-committer.ts",
    from: "kv.slide(blocks, numComputedTokens);",
    to: "kv.slide(blocks, sequence.numSubmittedTokens);",
    tests: [HELD_BLOCKS],
  },
  {
    name: "wrong-draft-kept",
    breaks: "the KV of the first wrong draft stays in the sequence",
    file: "engine/scheduler/step-committer.ts",
    from: "sequence.numComputedTokens -= numDrafts - accepted;",
    to: "sequence.numComputedTokens -= Math.max(0, numDrafts - accepted - 1);",
    tests: ["tests/unit/scheduler/speculation.test.ts"],
  },
  {
    name: "resumed-at-output-0",
    breaks: "a preempted request draws the random numbers of its first tokens again",
    file: "engine/runner/native-runner.ts",
    from: "    outputIndex: numOutputTokens,\n",
    to: "    outputIndex: numOutputTokens < 0 ? numOutputTokens : 0,\n",
    tests: ["tests/unit/scheduler/preemption.test.ts", ONE_ANSWER],
  },
  {
    name: "first-in-order-preempted",
    breaks: "the request that must always go on is put out for those behind it",
    file: "engine/scheduler/step-planner.ts",
    from: "const victim = running.last;",
    to: "const victim = running.first;",
    tests: ["tests/unit/scheduler/preemption.test.ts", "tests/unit/scheduler/priority.test.ts"],
  },
  {
    name: "removed-item-loses-its-next",
    breaks: "preempting the running sequence at hand ends the walk: those behind it are left out",
    file: "engine/scheduler/running-list.ts",
    from: "    item.previous = undefined;\n",
    to: "    item.previous = undefined;\n    item.next = undefined;\n",
    tests: ["tests/unit/scheduler/running-list.test.ts"],
  },
  {
    name: "queue-hole-never-rises",
    breaks: "an abort in the queue lets a later request overtake an earlier one",
    file: "engine/scheduler/waiting-queue.ts",
    from: "if (index > 0 && goesBefore(last, this.#heap[(index - 1) >> 1]!)) this.#rise(last, index);\n    else this.#sink(last, index);",
    to: "this.#sink(last, index);",
    tests: ["tests/unit/scheduler/waiting-queue.test.ts"],
  },
];

export const FAULTS: readonly Fault[] = [
  ...CACHE_FAULTS,
  ...HOLD_FAULTS,
  ...CONNECTOR_FAULTS,
  ...EXPLAIN_FAULTS,
  ...GRAMMAR_FAULTS,
  ...API_FAULTS,
  ...TIER_FAULTS,
  ...PIN_FAULTS,
  ...SESSION_FAULTS,
  ...SWAP_FAULTS,
  ...SCHEDULER_FAULTS,
  ...PACE_FAULTS,
];
