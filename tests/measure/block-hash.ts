/** What a block's hash costs, called as the scheduler does: a whole prompt of 4,096 tokens at a time. */

import { hashBlocks, noneHash } from "../../engine/runner/native.ts";

const TOKENS = 4096;
const BLOCK_SIZE = 16;
const PROMPTS = 64;
const ROUNDS = 40;

let seed = 1;
const random = (): number => (seed = Math.imul(seed, 1_664_525) + 1_013_904_223) >>> 0;
const prompts = Array.from({ length: PROMPTS }, () =>
  Int32Array.from({ length: TOKENS }, () => random() % 151_936),
);
const parent = noneHash("0");
const nanos: number[] = [];
for (let round = 0; round < ROUNDS; round++) {
  const start = Bun.nanoseconds();
  for (const prompt of prompts) hashBlocks(parent, prompt, BLOCK_SIZE);
  nanos.push((Bun.nanoseconds() - start) / (PROMPTS * (TOKENS / BLOCK_SIZE)));
}
nanos.sort((a, b) => a - b);
const figure = (value: number): string => value.toFixed(1);
process.stdout.write(
  `${figure(nanos[ROUNDS >> 1]!)} ns a block of ${BLOCK_SIZE} tokens (best ${figure(nanos[0]!)})\n`,
);
