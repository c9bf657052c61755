/**
 * Writes `kernels/ROOFLINE.md`: what each kernel of a step has to move and to compute, and the time no card can beat:
 *
 *   bun kernels/cuda/roofline.ts [--check]
 *
 * Everything in it is computed from shapes and data sheets.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { type Card, CARDS } from "./chips.ts";

const FILE: string = fileURLToPath(new URL("../ROOFLINE.md", import.meta.url));

interface Model {
  readonly name: string;
  readonly layers: number;
  readonly hidden: number;
  readonly intermediate: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly vocabulary: number;
  /** Bytes of a block of 32 weights, scales included, and whether it has a minimum. */
  readonly blockBytes: number;
  readonly minimum: boolean;
}

const MODELS: readonly Model[] = [
  {
    name: "SmolLM2-135M, Q4_1",
    layers: 30,
    hidden: 576,
    intermediate: 1536,
    heads: 9,
    kvHeads: 3,
    headDim: 64,
    vocabulary: 49_152,
    blockBytes: 20,
    minimum: true,
  },
  {
    name: "Llama 3.1 8B shapes, Q4_0",
    layers: 32,
    hidden: 4096,
    intermediate: 14_336,
    heads: 32,
    kvHeads: 8,
    headDim: 128,
    vocabulary: 128_256,
    blockBytes: 18,
    minimum: false,
  },
];

/** Sequences, new tokens of each, positions seen. */
interface Step {
  readonly name: string;
  readonly sequences: number;
  readonly tokens: number;
  readonly context: number;
}

const STEPS: readonly Step[] = [
  { name: "decode, 1 sequence at 1024 tokens", sequences: 1, tokens: 1, context: 1024 },
  { name: "decode, 64 sequences at 1024 tokens", sequences: 64, tokens: 1, context: 1024 },
  { name: "prefill, 1 prompt of 2048 tokens", sequences: 1, tokens: 2048, context: 2048 },
];

/** What all launches of a kernel in one step amount to. */
interface Work {
  readonly kernel: string;
  readonly launches: number;
  readonly bytes: number;
  /** Multiplications and additions, by unit. */
  readonly int8: number;
  readonly half: number;
  readonly float: number;
}

function work(
  kernel: string,
  launches: number,
  bytes: number,
  operations: Partial<Work> = {},
): Work {
  return { kernel, launches, bytes, int8: 0, half: 0, float: 0, ...operations };
}

/** Activations in int8 with two f32 a block of 32; weights; f32 out. Each block costs a product and two or three f32 operations. */
function linear(
  model: Model,
  name: string,
  launches: number,
  rows: number,
  cols: number,
  width: number,
): Work {
  const blocks = cols / 32;
  const bytes = width * blocks * model.blockBytes + rows * (cols + blocks * 8 + width * 4);
  // Of each block and output: a subtraction, a product, a fused multiply-add, and another one for a minimum.
  const floats = rows * width * blocks * (model.minimum ? 6 : 4);
  return work(name, launches, launches * bytes, {
    int8: launches * 2 * rows * width * cols,
    float: launches * floats,
  });
}

function stepWork(model: Model, step: Step): readonly Work[] {
  const { layers, hidden, intermediate, heads, kvHeads, headDim, vocabulary } = model;
  const rows = step.sequences * step.tokens;
  const samples = step.sequences;
  const qkv = (heads + 2 * kvHeads) * headDim;
  const row = (kernel: string, launches: number, floats: number): Work =>
    work(kernel, launches, launches * rows * floats * 4, { float: launches * rows * floats });
  const quantize = (launches: number, cols: number, of: number): Work =>
    work(`quantize (${cols})`, launches, launches * of * cols * 5.25, {
      float: launches * of * cols * 2,
    });
  // A token sees on average half of what is new and all that was there before.
  const seen = step.context - (step.tokens - 1) / 2;
  const kvBytes = step.sequences * step.context * kvHeads * headDim * 4;
  return [
    work("embed", 1, rows * hidden * (4 + model.blockBytes / 32)),
    row("rms_norm", 2 * layers + 1, 4 * hidden),
    quantize(2 * layers, hidden, rows),
    linear(model, "linear qkv", layers, rows, hidden, qkv),
    row("rope", layers, 2 * qkv),
    work("store_kv", layers, layers * rows * kvHeads * headDim * 12),
    work("attention", layers, layers * (kvBytes + rows * (heads * headDim * 8)), {
      half: layers * 4 * rows * heads * headDim * seen,
    }),
    quantize(layers, heads * headDim, rows),
    linear(model, "linear output", layers, rows, heads * headDim, hidden),
    linear(model, "linear gate and up", layers, rows, hidden, 2 * intermediate),
    row("silu_mul", layers, 3 * intermediate),
    quantize(layers, intermediate, rows),
    linear(model, "linear down", layers, rows, intermediate, hidden),
    linear(model, "linear vocabulary", 1, samples, hidden, vocabulary),
  ];
}

/** Seconds, and which of memory, tensor cores and f32 units sets them. */
function bound({ bytes, int8, half, float }: Work, card: Card): { seconds: number; by: string } {
  const times = [
    { seconds: bytes / card.bandwidth, by: "m" },
    { seconds: int8 / card.int8 + half / card.half, by: "t" },
    { seconds: float / card.float, by: "f" },
  ];
  return times.reduce((most, time) => (time.seconds > most.seconds ? time : most));
}

function shorten(value: number): string {
  const units = ["", "k", "M", "G", "T"];
  let unit = 0;
  let short = value;
  while (short >= 1000 && unit < units.length - 1) {
    short /= 1000;
    unit++;
  }
  return `${short >= 100 ? short.toFixed(0) : short.toPrecision(2)} ${units[unit]}`.trim();
}

function microseconds(seconds: number): string {
  const value = seconds * 1e6;
  return value >= 100 ? value.toFixed(0) : value.toPrecision(2);
}

function table(model: Model, step: Step): string {
  const all = stepWork(model, step);
  const head = [
    "kernel",
    "launches",
    "bytes",
    "int8",
    "f16",
    "f32",
    ...CARDS.map(({ name }) => name),
  ];
  const rows = all.map((one) => [
    one.kernel,
    String(one.launches),
    ...[one.bytes, one.int8, one.half, one.float].map(shorten),
    ...CARDS.map((card) => {
      const { seconds, by } = bound(one, card);
      return `${microseconds(seconds)} ${by}`;
    }),
  ]);
  const sum = (pick: (one: Work) => number): number =>
    all.reduce((total, one) => total + pick(one), 0);
  rows.push([
    "**step**",
    String(sum(({ launches }) => launches)),
    ...[
      sum((one) => one.bytes),
      sum((one) => one.int8),
      sum((one) => one.half),
      sum((one) => one.float),
    ].map(shorten),
    ...CARDS.map((card) => `**${microseconds(sum((one) => bound(one, card).seconds))}**`),
  ]);
  const line = (cells: readonly string[]): string => `| ${cells.join(" | ")} |`;
  const rule = line(head.map((_, i) => (i === 0 ? "---" : "---:")));
  return `### ${model.name}: ${step.name}\n\n${[line(head), rule, ...rows.map(line)].join("\n")}\n`;
}

function document(): string {
  const cards = CARDS.map(
    (card) =>
      `| ${card.name} | ${(card.bandwidth / 1e12).toFixed(2)} | ${card.int8 / 1e12} | ${card.half / 1e12} | ${card.float / 1e12} |`,
  );
  return `<!-- Written by kernels/cuda/roofline.ts; do not edit. -->

# Roofline of the CUDA kernels

**Computed, never measured.** For each kernel: the bytes it must move at least (weights and KV once, activations in and out), the
operations it does, and the time that no card can beat, in microseconds for all its launches in one step: the largest of bytes by
bandwidth (m), operations on tensor cores (t) and f32 operations (f). Launches cost time beside it: 2 to 3 microseconds each without
CUDA graphs, so small steps of small models are bound by their launches. What a card did is in
\`tests/gpu/kernels.sh\`'s output.

A quantised linear computes blocks of 32 columns as exact int8 products and takes each into an f32 sum; the f32 operations of these
sums, not the products, bound it for many rows.

| card (data sheet, dense) | TB/s | int8 TOP/s | f16 TFLOP/s | f32 TFLOP/s |
| --- | ---: | ---: | ---: | ---: |
${cards.join("\n")}

${MODELS.flatMap((model) => STEPS.map((step) => table(model, step))).join("\n")}`;
}

if (process.argv.includes("--check")) {
  if (readFileSync(FILE, "utf8") !== document()) {
    process.stderr.write(
      "kernels/ROOFLINE.md is not what kernels/cuda/roofline.ts writes: run it\n",
    );
    process.exit(1);
  }
} else {
  writeFileSync(FILE, document());
}
