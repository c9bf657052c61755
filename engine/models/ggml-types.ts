/**
 * Element types of GGUF tensors: number in the file, name, block shape. Source: `ggml.h` (`enum ggml_type`) and
 * `ggml-common.h` of ggml. Types without a kernel are here too, so that a file that has them can be listed.
 */

export interface GgmlType {
  readonly name: string;
  /** Elements in a block; a row's length is a multiple of it. */
  readonly blockLen: number;
  /** Bytes of a block. */
  readonly blockBytes: number;
  /** There are kernels for weights of this type. */
  readonly supported: boolean;
}

const row = (name: string, blockLen: number, blockBytes: number, supported = false): GgmlType => ({
  name,
  blockLen,
  blockBytes,
  supported,
});

/** By the number that stands in the file. */
export const GGML_TYPES: ReadonlyMap<number, GgmlType> = new Map([
  [0, row("F32", 1, 4, true)],
  [1, row("F16", 1, 2, true)],
  [2, row("Q4_0", 32, 18, true)],
  [3, row("Q4_1", 32, 20, true)],
  [6, row("Q5_0", 32, 22, true)],
  [7, row("Q5_1", 32, 24, true)],
  [8, row("Q8_0", 32, 34, true)],
  [9, row("Q8_1", 32, 36)],
  [10, row("Q2_K", 256, 84)],
  [11, row("Q3_K", 256, 110)],
  [12, row("Q4_K", 256, 144, true)],
  [13, row("Q5_K", 256, 176, true)],
  [14, row("Q6_K", 256, 210, true)],
  [15, row("Q8_K", 256, 292)],
  [16, row("IQ2_XXS", 256, 66)],
  [17, row("IQ2_XS", 256, 74)],
  [18, row("IQ3_XXS", 256, 98)],
  [19, row("IQ1_S", 256, 50)],
  [20, row("IQ4_NL", 32, 18)],
  [21, row("IQ3_S", 256, 110)],
  [22, row("IQ2_S", 256, 82)],
  [23, row("IQ4_XS", 256, 136)],
  [24, row("I8", 1, 1)],
  [25, row("I16", 1, 2)],
  [26, row("I32", 1, 4)],
  [27, row("I64", 1, 8)],
  [28, row("F64", 1, 8)],
  [29, row("IQ1_M", 256, 56)],
  [30, row("BF16", 1, 2, true)],
  [34, row("TQ1_0", 256, 54)],
  [35, row("TQ2_0", 256, 66)],
  [39, row("MXFP4", 32, 17)],
]);

/** Names of the types that weights can have, for messages. */
export const SUPPORTED_TYPE_NAMES: readonly string[] = [...GGML_TYPES.values()]
  .filter(({ supported }) => supported)
  .map(({ name }) => name);
