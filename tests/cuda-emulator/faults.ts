/** The faults that `mutate.ts` plants: small, plausible mistakes in kernels and in the host side of the cuda backend. */

import type { Fault } from "../mutation/plan.ts";

const SUITE = "ops::suite::the_cuda_backend_agrees_on_";
const LINEAR = `${SUITE}linear`;
const ROWS = `${SUITE}rows`;
const ROTATION = `${SUITE}rope`;
const ATTENTION = `${SUITE}attention`;
const SAMPLING = `${SUITE}sampling`;
const TOGETHER = "program::tests::sequences_that_decode_together_pick_what_each_picks_alone";
const FORWARD = "program::tests::the_whole_forward_agrees_with_the_reference";
const COPIES = "program::tests::pages_are_copied_before_the_step_in_the_order_given";
const MOVED =
  "transfer::tests::sequences::pages_that_went_to_the_host_and_back_into_other_blocks_give_the_same_logits";
const BUDGET =
  "tests/cuda-emulator/machine-code.test.ts > the machine code keeps its budget of registers, memory and loads on every chip";

const KERNEL = "kernels/core/src/ops/attention/kernel.cu";
const TILE = "kernels/core/src/ops/attention/tile.cuh";
const NARROW = "kernels/core/src/ops/attention/narrow.cuh";
const WIDE = "kernels/core/src/ops/attention/wide.cuh";
const FEW = "kernels/core/src/ops/linear/few.cuh";
const MANY = "kernels/core/src/ops/linear/many.cuh";
const NORM = "kernels/core/src/ops/rms_norm/kernel.cu";
const STORE = "kernels/core/src/ops/store_kv/kernel.cu";
const ROPE = "kernels/core/src/ops/rope/kernel.cu";
const SAMPLE = "kernels/core/src/ops/sample/block.cuh";

const KERNEL_FAULTS: readonly Fault[] = [
  {
    name: "norm-without-barrier",
    breaks: "warps read the sums of others before they are there",
    file: NORM,
    from: "warps[threadIdx.x / 32] = squares;\n  __syncthreads();\n",
    to: "warps[threadIdx.x / 32] = squares;\n",
    tests: [ROWS],
  },
  {
    name: "values-overwritten-while-read",
    breaks: "the next chunk's values arrive while warps still use this one's",
    file: NARROW,
    from: "    __syncthreads();  // values and weights have been used\n",
    to: "",
    tests: [ATTENTION],
  },
  {
    name: "keys-not-waited-for",
    breaks: "keys are used while they are on their way",
    file: NARROW,
    from: "    copy_async_wait<1>();\n    __syncthreads();  // the keys are there, and so are the queries\n",
    to: "    copy_async_wait<2>();\n    __syncthreads();  // the keys are there, and so are the queries\n",
    tests: [ATTENTION],
  },
  {
    name: "block-id-shifted",
    breaks: "a block's last position is looked for in the next block",
    file: TILE,
    from: "source.blocks[position / source.block_size]",
    to: "source.blocks[(position + 1) / source.block_size]",
    tests: [ATTENTION],
  },
  {
    name: "sees-the-future",
    breaks: "a token attends to the one behind it",
    file: TILE,
    from: "return position + token_of(row) + 1; }",
    to: "return position + token_of(row) + 2; }",
    tests: [ATTENTION],
  },
  {
    name: "window-one-long",
    breaks: "a window sees one position too many",
    file: TILE,
    from: "max(0, to(row) - window)",
    to: "max(0, to(row) - window - 1)",
    tests: [ATTENTION],
  },
  {
    name: "wrong-fragment-row",
    breaks: "the second half of a tensor-core tile is written to the wrong rows",
    file: NARROW,
    from: "const int row = threadIdx.x % 32 / 4 + 8 * half;\n    if (row >= tile.rows) return;\n",
    to: "const int row = threadIdx.x % 32 / 4 + 7 * half;\n    if (row >= tile.rows) return;\n",
    tests: [ATTENTION],
  },
  {
    name: "slot-shifted",
    breaks: "keys and values land one slot further",
    file: STORE,
    from: "block_size + slot % block_size;",
    to: "block_size + (slot + 1) % block_size;",
    tests: [ATTENTION],
  },
  {
    name: "padding-is-stored",
    breaks: "rows that only fill up a graph are written to KV",
    file: ROPE,
    from: "    else if (slot >= 0) page[",
    to: "    else page[",
    tests: [TOGETHER],
  },
  {
    name: "terms-read-too-early",
    breaks: "a warp adds up terms that others have not written",
    file: FEW,
    from: "    load(chunk + CHUNK);\n    __syncthreads();\n",
    to: "    load(chunk + CHUNK);\n",
    tests: [LINEAR],
  },
  {
    name: "second-scale-forgotten",
    breaks: "the upper half of a Q6_K block has the scale of the lower one",
    file: FEW,
    from: "float(dot) * held[i].scales[part]",
    to: "float(dot) * held[i].scales[0]",
    tests: [LINEAR],
  },
  {
    name: "columns-past-the-end",
    breaks: "a linear writes columns that its output does not have",
    file: MANY,
    from: "        if (column < width && row < rows)\n          out[",
    to: "        if (row < rows)\n          out[",
    tests: [LINEAR],
  },
  {
    name: "stages-without-barrier",
    breaks: "the next weights arrive while warps still use these",
    file: MANY,
    from: "      }\n    }\n    __syncthreads();\n  }\n",
    to: "      }\n    }\n  }\n",
    tests: [LINEAR],
  },
  {
    name: "rotation-the-other-way",
    breaks: "heads are rotated backwards",
    file: ROPE,
    from: "out[a] = low * cosine - high * sine;\n    out[b] = low * sine + high * cosine;",
    to: "out[a] = low * cosine + high * sine;\n    out[b] = high * cosine - low * sine;",
    tests: [ROTATION],
  },
  {
    name: "values-overwritten-by-the-wide-way",
    breaks: "the same where a prompt's rows have a warp each",
    file: WIDE,
    from: "    __syncthreads();  // the values have been used\n",
    to: "",
    tests: [ATTENTION],
  },
  {
    name: "last-split-not-merged",
    breaks: "a decoding token does not see its newest 256 positions",
    file: KERNEL,
    from: "split <= (to - 1) / SPLIT;",
    to: "split < (to - 1) / SPLIT;",
    tests: [ATTENTION],
  },
  {
    name: "cap-in-the-wrong-unit",
    breaks: "a soft cap is taken for one of scores in units of log2",
    file: TILE,
    from: "const float cap = soft_cap * LOG2_E,",
    to: "const float cap = soft_cap,",
    tests: [ATTENTION],
  },
  {
    name: "zeros-left-on-their-way",
    breaks: "a block ends while copies to its shared memory are on their way",
    file: MANY,
    from: "  copy_async_wait<0>();\n",
    to: "",
    tests: [LINEAR],
  },
  {
    name: "maxima-overwritten-while-read",
    breaks: "a warp writes its maximum of the next row while others read those of this one",
    file: SAMPLE,
    from: "  x = warp_max(x);\n  __syncthreads();\n",
    to: "  x = warp_max(x);\n",
    tests: [SAMPLING],
  },
  {
    name: "halves-swapped-on-the-device",
    breaks:
      "two floats become a pair of halves in the wrong order, in the PTX and not in its twin for the host",
    file: "kernels/core/src/cuda/device.cuh",
    from: 'asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));',
    to: 'asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(low), "f"(high));',
    tests: [`ptx > ${ATTENTION}`],
  },
  {
    name: "budget-exceeded",
    breaks: "attention has so few registers that its sums are spilled to local memory",
    file: KERNEL,
    from: "HEAD > 64 ? 2 : 3)",
    to: "HEAD > 64 ? 2 : 8)",
    tests: [BUDGET],
  },
];

const CUDA = "kernels/core/src/backend/cuda";
const ORDER = "backend::cuda::order_tests::";

/** All of them are built at once (`mutate.ts`): each is whole lines, or an expression. */
const HOST_FAULTS: readonly Fault[] = [
  {
    name: "load-does-not-follow-steps",
    breaks: "a block is loaded while the step that its former owner was in still uses it",
    file: `${CUDA}/pages.rs`,
    from: "        self.loads.follow(&self.steps)?;\n",
    to: "",
    tests: [`${ORDER}a_load_comes_after_the_step_that_used_its_block`],
  },
  {
    name: "load-does-not-follow-stores",
    breaks: "a block is loaded while what it held is still being stored",
    file: `${CUDA}/pages.rs`,
    from: "        self.loads.follow(&self.stores)\n",
    to: "        Ok(())\n",
    tests: [`${ORDER}a_load_comes_after_the_store_of_what_its_block_held`],
  },
  {
    name: "store-does-not-follow-steps",
    breaks: "a block is stored while the step that fills it is at work",
    file: `${CUDA}/pages.rs`,
    from: "            self.stores.follow(&self.steps)?;\n",
    to: "",
    tests: [`${ORDER}a_store_comes_after_the_step_that_filled_its_block`],
  },
  {
    name: "store-does-not-follow-loads",
    breaks: "a block is stored while it is being loaded",
    file: `${CUDA}/pages.rs`,
    from: "            self.stores.follow(&self.loads)?;\n",
    to: "",
    tests: [`${ORDER}a_store_comes_after_the_load_that_filled_its_block`],
  },
  {
    name: "step-does-not-follow-loads",
    breaks: "a step reads blocks that are still being loaded",
    file: `${CUDA}/pages.rs`,
    from: "        self.steps.follow(&self.loads)?;\n",
    to: "",
    tests: [`${ORDER}a_step_comes_after_the_load_of_what_it_reads`],
  },
  {
    name: "step-does-not-follow-stores",
    breaks: "a step writes a block that is still being stored",
    file: `${CUDA}/pages.rs`,
    from: "        self.steps.follow(&self.stores)\n",
    to: "        Ok(())\n",
    tests: [`${ORDER}a_step_comes_after_the_store_of_what_it_overwrites`],
  },
  {
    name: "pages-used-before-they-are-zeroed",
    breaks: "copies do not wait until new pages have been zeroed",
    file: `${CUDA}/pages.rs`,
    from: "        steps.reported()?;\n",
    to: "",
    tests: [`${ORDER}new_pages_are_zero_for_whoever_reads_them_first`],
  },
  {
    name: "computed-before-loads-are-there",
    breaks: "the launches of a step do not wait for the loads before it",
    file: `${CUDA}/run.rs`,
    from: "        self.kv()?.step_begins()?;\n",
    to: "",
    tests: [MOVED],
  },
  {
    name: "copy-not-waited-for",
    breaks: "a page counts as stored, and a block as loaded, before the copy has run",
    file: `${CUDA}/order.rs`,
    from: '        self.device.check("pages did not arrive", end.synchronize())?;\n',
    to: "",
    tests: [`${ORDER}a_store_has_arrived_in_pinned_memory_when_it_returns`],
  },
  {
    name: "pinned-buffer-reused-early",
    breaks: "a step's arrays are written over while the copy of the step before reads them",
    file: `${CUDA}/memory.rs`,
    from: '        self.device.check("a copy has failed", self.used.synchronize())?;\n',
    to: "",
    tests: [`${ORDER}a_pinned_buffer_is_not_written_before_its_copy_has_read_it`],
  },
  {
    name: "pinned-memory-freed-early",
    breaks: "pinned memory is given back while a copy reads it",
    file: `${CUDA}/memory.rs`,
    from: "            let _lost = self.used.synchronize();\n",
    to: "",
    tests: [`${ORDER}pinned_memory_outlives_the_copies_that_use_it`],
  },
  {
    name: "last-columns-not-computed",
    breaks: "a grid is rounded down",
    file: `${CUDA}/ops.rs`,
    from: "matrix.rows.div_ceil(columns as usize)",
    to: "(matrix.rows / columns as usize).max(1)",
    tests: [LINEAR],
  },
  {
    name: "integers-without-room",
    breaks: "activations as integers have a small part of the memory that they need",
    file: `${CUDA}/reserve.rs`,
    from: "rows * needs.quantised_cols",
    to: "rows * needs.quantised_cols / 64",
    tests: [LINEAR],
  },
  {
    name: "partial-results-without-room",
    breaks: "attention is split although its partial results exceed their memory",
    file: `${CUDA}/ops.rs`,
    from: "splits > 1 && tiles * num_kv_heads < self.busy_blocks && fits",
    to: "splits > 1 && tiles * num_kv_heads < self.busy_blocks",
    tests: [ATTENTION],
  },
  {
    name: "later-tiles-at-the-start",
    breaks: "later tiles of a prompt chunk believe that they are its first",
    file: `${CUDA}/steps.rs`,
    from: "[row.first + first, len, row.start + first]",
    to: "[row.first + first, len, row.start]",
    tests: [ATTENTION],
  },
  {
    name: "pages-copied-backwards",
    breaks: "a forked sequence's block is written over by what it should get",
    file: `${CUDA}/mod.rs`,
    from: "kv.memory.copy(&self.stream, from, to, bytes)",
    to: "kv.memory.copy(&self.stream, to, from, bytes)",
    tests: [COPIES],
  },
  {
    name: "integers-of-another-op",
    breaks: "a linear takes as its input's integers what an earlier op has left",
    file: `${CUDA}/run.rs`,
    from: "            integers.there = integers.wanted;\n",
    to: "            integers.there |= integers.wanted;\n",
    tests: [FORWARD],
  },
  {
    name: "graph-of-too-few-splits",
    breaks: "a graph for short sequences is launched for long ones",
    file: `${CUDA}/run.rs`,
    from: "splits.next_power_of_two().min(self.max_splits)",
    to: "1",
    tests: ["backend::cuda::run::tests::each_decode_step_has_the_smallest_graph_that_holds_it"],
  },
];

export const FAULTS: readonly Fault[] = [...KERNEL_FAULTS, ...HOST_FAULTS];
