/**
 * What each kernel may take of a chip. The target is a number of blocks that a multiprocessor holds at once: enough loads on
 * the way to keep memory busy, or enough warps to hide the tensor cores' latency. Registers and shared memory follow from
 * it (`gate.ts`).
 */
export interface Budget {
  /** The kernels' names begin with this; the first row that fits counts. */
  readonly prefix: string;
  /** Threads of a block. */
  readonly threads: number;
  /** Blocks a multiprocessor: with 1536 threads and 100 KiB of shared memory (86, 89, 120), and of the others. */
  readonly blocks: { readonly small: number; readonly large: number };
  /** Must use tensor cores. */
  readonly tensor?: "HMMA" | "IMMA";
  /** Fewest 16-byte loads from global memory in its code. */
  readonly wideLoads?: number;
}

/** No kernel spills and none has a stack. */
export const BUDGETS: readonly Budget[] = [
  { prefix: "attention_merge_", threads: 256, blocks: { small: 4, large: 4 } },
  // A prompt's 64 rows keep their sums in registers, and queries, keys and values in shared memory: two or three blocks.
  ...attention("attention_hs", ["256", "128", "96", "80"], { small: 2, large: 2 }),
  ...attention("attention_hs", ["64", "40", "32", "16"], { small: 3, large: 3 }),
  ...attention("attention_split_hs", ["256"], { small: 2, large: 3 }),
  ...attention("attention_split_hs", ["96", "80"], { small: 3, large: 4 }),
  ...attention("attention_split_hs", ["128"], { small: 4, large: 4 }),
  ...attention("attention_split_hs", ["64", "40", "32", "16"], { small: 4, large: 5 }),
  // Two or three stages of weights and activations fill 48 KiB.
  {
    prefix: "linear_many_",
    threads: 128,
    blocks: { small: 2, large: 3 },
    tensor: "IMMA",
    wideLoads: 4,
  },
  { prefix: "linear_q6_k", threads: 128, blocks: { small: 3, large: 4 }, wideLoads: 8 },
  { prefix: "linear_q", threads: 128, blocks: { small: 4, large: 4 }, wideLoads: 4 },
  { prefix: "linear_f32", threads: 128, blocks: { small: 8, large: 8 } },
  { prefix: "linear_", threads: 128, blocks: { small: 8, large: 8 }, tensor: "HMMA", wideLoads: 4 },
  // Its steps end at barriers: a second block fills the waits.
  { prefix: "sample_f32", threads: 512, blocks: { small: 1, large: 1 } },
  { prefix: "sample_", threads: 512, blocks: { small: 3, large: 3 } },
  { prefix: "rope_", threads: 256, blocks: { small: 6, large: 6 } },
  // Everything that takes row by row: as many threads as there is room for.
  { prefix: "", threads: 256, blocks: { small: 6, large: 8 } },
];

function attention(
  prefix: string,
  heads: readonly string[],
  blocks: Budget["blocks"],
): readonly Budget[] {
  return heads.map((head) => ({
    prefix: `${prefix}${head}`,
    threads: 128,
    blocks,
    tensor: "HMMA" as const,
    wideLoads: 2,
  }));
}

/** The row of a kernel. */
export function budgetOf(kernel: string): Budget {
  const budget = BUDGETS.find(({ prefix }) => kernel.startsWith(prefix));
  if (budget === undefined) throw new Error(`${kernel} has no budget`);
  return budget;
}
