/** What the gate and the roofline know of NVIDIA's chips. From the vendor's tables (CUDA C++ Programming Guide, data sheets). */

/** Limits of a streaming multiprocessor. */
export interface Multiprocessor {
  readonly registers: number;
  readonly sharedBytes: number;
  readonly threads: number;
  readonly blocks: number;
}

const LARGE: Multiprocessor = { registers: 65_536, sharedBytes: 0, threads: 2048, blocks: 32 };
const SMALL: Multiprocessor = { ...LARGE, sharedBytes: 100 << 10, threads: 1536, blocks: 24 };

/** By compute capability: every chip that has a form of its own. */
export const MULTIPROCESSORS: Readonly<Record<string, Multiprocessor>> = {
  sm_80: { ...LARGE, sharedBytes: 164 << 10 },
  sm_86: { ...SMALL, blocks: 16 },
  sm_89: SMALL,
  sm_90: { ...LARGE, sharedBytes: 228 << 10 },
  sm_100: { ...LARGE, sharedBytes: 228 << 10 },
  sm_120: SMALL,
};

/** Peak rates of a card, dense, as its data sheet has them. */
export interface Card {
  readonly name: string;
  /** Bytes a second. */
  readonly bandwidth: number;
  /** Operations a second: int8 and f16 on tensor cores (f32 sums), f32 without. */
  readonly int8: number;
  readonly half: number;
  readonly float: number;
}

/** In the order of the roofline's columns. */
export const CARDS: readonly Card[] = [
  { name: "A100 SXM", bandwidth: 2.039e12, int8: 624e12, half: 312e12, float: 19.5e12 },
  { name: "H100 SXM", bandwidth: 3.35e12, int8: 1979e12, half: 989e12, float: 67e12 },
  { name: "L40S", bandwidth: 0.864e12, int8: 733e12, half: 362e12, float: 91.6e12 },
  { name: "RTX 4090", bandwidth: 1.008e12, int8: 661e12, half: 165e12, float: 82.6e12 },
  { name: "B200", bandwidth: 8e12, int8: 4500e12, half: 2250e12, float: 75e12 },
];
