/** The faults that `mutate.ts` plants: small, plausible mistakes in kernels and in the host side of the cuda backend. */

import type { Fault } from "../mutation/plan.ts";

const OPS = "ops::suite::the_cuda";
const PROGRAMS = "program::tests";
const PAGES = "transfer::tests::pages_that_went";

const TILE = "kernels/core/src/ops/attention/tile.cuh";
const NARROW = "kernels/core/src/ops/attention/narrow.cuh";
const FEW = "kernels/core/src/ops/linear/few.cuh";
const MANY = "kernels/core/src/ops/linear/many.cuh";
const NORM = "kernels/core/src/ops/rms_norm/kernel.cu";
const STORE = "kernels/core/src/ops/store_kv/kernel.cu";
const ROPE = "kernels/core/src/ops/rope/kernel.cu";

/** Tests are the core's, by parts of their names. */
const KERNEL_FAULTS: readonly Fault[] = [
  {
    name: "norm-without-barrier",
    breaks: "warps read the sums of others before they are there",
    file: NORM,
    from: "warps[threadIdx.x / 32] = squares;\n  __syncthreads();\n",
    to: "warps[threadIdx.x / 32] = squares;\n",
    tests: [OPS],
  },
  {
    name: "values-overwritten-while-read",
    breaks: "the next chunk's values arrive while warps still use this one's",
    file: NARROW,
    from: "    __syncthreads();  // values and weights have been used\n",
    to: "",
    tests: [OPS],
  },
  {
    name: "keys-not-waited-for",
    breaks: "keys are used while they are on their way",
    file: NARROW,
    from: "    copy_async_wait<1>();\n    __syncthreads();  // the keys are there, and so are the queries\n",
    to: "    copy_async_wait<2>();\n    __syncthreads();  // the keys are there, and so are the queries\n",
    tests: [OPS],
  },
  {
    name: "block-id-shifted",
    breaks: "a block's last position is looked for in the next block",
    file: TILE,
    from: "source.blocks[position / source.block_size]",
    to: "source.blocks[(position + 1) / source.block_size]",
    tests: [OPS],
  },
  {
    name: "sees-the-future",
    breaks: "a token attends to the one behind it",
    file: TILE,
    from: "return position + token_of(row) + 1; }",
    to: "return position + token_of(row) + 2; }",
    tests: [OPS],
  },
  {
    name: "window-one-long",
    breaks: "a window sees one position too many",
    file: TILE,
    from: "max(0, to(row) - window)",
    to: "max(0, to(row) - window - 1)",
    tests: [OPS],
  },
  {
    name: "wrong-fragment-row",
    breaks: "the second half of a tensor-core tile is written to the wrong rows",
    file: NARROW,
    from: "const int row = threadIdx.x % 32 / 4 + 8 * half;\n    if (row >= tile.rows) return;\n",
    to: "const int row = threadIdx.x % 32 / 4 + 7 * half;\n    if (row >= tile.rows) return;\n",
    tests: [OPS],
  },
  {
    name: "slot-shifted",
    breaks: "keys and values land one slot further",
    file: STORE,
    from: "block_size + slot % block_size;",
    to: "block_size + (slot + 1) % block_size;",
    tests: [OPS],
  },
  {
    name: "padding-is-stored",
    breaks: "rows that only fill up a graph are written to KV",
    file: ROPE,
    from: "    else if (slot >= 0) page[",
    to: "    else page[",
    tests: [PROGRAMS],
  },
  {
    name: "terms-read-too-early",
    breaks: "a warp adds up terms that others have not written",
    file: FEW,
    from: "    load(chunk + CHUNK);\n    __syncthreads();\n",
    to: "    load(chunk + CHUNK);\n",
    tests: [OPS],
  },
  {
    name: "second-scale-forgotten",
    breaks: "the upper half of a Q6_K block has the scale of the lower one",
    file: FEW,
    from: "float(dot) * held[i].scales[part]",
    to: "float(dot) * held[i].scales[0]",
    tests: [OPS],
  },
  {
    name: "columns-past-the-end",
    breaks: "a linear writes columns that its output does not have",
    file: MANY,
    from: "        if (column < width && row < rows)\n          out[",
    to: "        if (row < rows)\n          out[",
    tests: [OPS],
  },
  {
    name: "stages-without-barrier",
    breaks: "the next weights arrive while warps still use these",
    file: MANY,
    from: "      }\n    }\n    __syncthreads();\n  }\n#pragma unroll\n  for (int i = 0; i < 2; i++)",
    to: "      }\n    }\n  }\n#pragma unroll\n  for (int i = 0; i < 2; i++)",
    tests: [OPS],
  },
  {
    name: "rotation-the-other-way",
    breaks: "heads are rotated backwards",
    file: ROPE,
    from: "out[a] = low * cosine - high * sine;\n    out[b] = low * sine + high * cosine;",
    to: "out[a] = low * cosine + high * sine;\n    out[b] = high * cosine - low * sine;",
    tests: [OPS],
  },
];

const CUDA = "kernels/core/src/backend/cuda";

const HOST_FAULTS: readonly Fault[] = [
  {
    name: "pinned-buffer-reused-early",
    breaks: "a step's arrays are written over while the copy of the step before reads them",
    file: `${CUDA}/memory.rs`,
    from: '        self.device.check("a copy has failed", self.used.synchronize())?;\n',
    to: "",
    tests: [PROGRAMS],
  },
  {
    name: "pages-used-before-they-are-zeroed",
    breaks: "loads do not wait until new pages have been zeroed",
    file: `${CUDA}/pages.rs`,
    from: '        device.check("device memory cannot be set", stream.synchronize())?;\n',
    to: "",
    tests: ["backend::cuda", PAGES],
  },
  {
    name: "store-not-waited-for",
    breaks: "a page counts as stored before its copy has run",
    file: `${CUDA}/pages.rs`,
    from: "        self.wait(&self.stores)?;\n",
    to: "",
    tests: [PAGES],
  },
  {
    name: "load-not-waited-for",
    breaks: "a block counts as loaded before its copy has run",
    file: `${CUDA}/pages.rs`,
    from: "        let enqueued = enqueue();\n        self.wait(&self.loads)?;\n",
    to: "        let enqueued = enqueue();\n",
    tests: [PAGES],
  },
  {
    name: "last-columns-not-computed",
    breaks: "a grid is rounded down",
    file: `${CUDA}/ops.rs`,
    from: "[matrix.rows.div_ceil(columns as usize),",
    to: "[(matrix.rows / columns as usize).max(1),",
    tests: [OPS],
  },
  {
    name: "integers-without-room",
    breaks: "activations as integers have a small part of the memory that they need",
    file: `${CUDA}/reserve.rs`,
    from: "numbers: rows * needs.quantised_cols,",
    to: "numbers: rows * needs.quantised_cols / 64,",
    tests: [OPS],
  },
  {
    name: "later-tiles-at-the-start",
    breaks: "later tiles of a prompt chunk believe that they are its first",
    file: `${CUDA}/steps.rs`,
    from: "[row.first + first, len, row.start + first]",
    to: "[row.first + first, len, row.start]",
    tests: [OPS],
  },
  {
    name: "pages-copied-backwards",
    breaks: "a forked sequence's block is written over by what it should get",
    file: `${CUDA}/mod.rs`,
    from: "kv.memory.copy(&self.stream, from, to, bytes)?;",
    to: "kv.memory.copy(&self.stream, to, from, bytes)?;",
    tests: [PROGRAMS],
  },
  {
    name: "graph-of-too-few-splits",
    breaks: "a graph for short sequences is launched for long ones",
    file: `${CUDA}/run.rs`,
    from: "splits.next_power_of_two().min(self.max_splits));",
    to: "1);",
    tests: ["backend::cuda"],
  },
];

export const FAULTS: readonly Fault[] = [...KERNEL_FAULTS, ...HOST_FAULTS];
