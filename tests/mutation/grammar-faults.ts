/** Faults of structured output: an answer would not have the form that was asked for, or not be there at all. */

import type { Fault } from "./plan.ts";

const FIELDS = "tests/unit/server/structured/fields.test.ts";
const GRAMMARS = "tests/unit/grammars.test.ts";
const GBNF = "tests/unit/server/structured/gbnf.test.ts";
const ENGINE = "tests/native/structured.test.ts";

export const GRAMMAR_FAULTS: readonly Fault[] = [
  {
    name: "grammar-left-behind",
    breaks: "what was compiled binds no answer",
    file: "engine/server/generate-requests.ts",
    from: "{ grammar: input.grammar }",
    to: "{}",
    tests: [FIELDS],
  },
  {
    name: "grammar-without-the-output-so-far",
    breaks: "a preempted answer begins its document again in the middle of it",
    file: "engine/runner/native-runner.ts",
    from: "request?.grammar !== undefined",
    to: "false",
    tests: [ENGINE],
  },
  {
    name: "grammar-in-use-goes-first",
    breaks: "the grammar that all ask for is given up before those that nobody wants",
    file: "engine/grammars.ts",
    from: "    this.#kept.delete(key);\n    this.#kept.set(key, kept);\n",
    to: "    this.#kept.set(key, kept);\n",
    tests: [GRAMMARS],
  },
  {
    name: "refused-grammar-is-kept",
    breaks: "what failed once fails for ever",
    file: "engine/grammars.ts",
    from: "() => this.#kept.delete(key),",
    to: "() => {},",
    tests: [GRAMMARS],
  },
  {
    name: "any-tool-for-the-named-one",
    breaks: "a client that names a tool gets calls of others",
    file: "engine/server/chat-messages.ts",
    from: "read.filter(({ name }) => name === choice.function.name)",
    to: "read",
    tests: [FIELDS],
  },
  {
    name: "drafts-of-what-was-forced-before",
    breaks: "what a grammar forces is drafted a place too late: every draft is wrong",
    file: "engine/scheduler/step-committer.ts",
    from: "forcedBehind(result, pick - 1)",
    to: "forcedBehind(result, first - 1)",
    tests: [ENGINE],
  },
  {
    name: "dash-in-a-set-escaped",
    breaks: "a range of GBNF is three characters",
    file: "engine/server/structured/gbnf.ts",
    from: 'found === "-" ?',
    to: "found === undefined ?",
    tests: [GBNF],
  },
];
