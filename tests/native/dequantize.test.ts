/** De-quantisation through N-API. Bit equality with the `gguf` package is tested in `kernels/core/tests/dequant.rs`. */

import { describe, expect, test } from "bun:test";
import { dequantize } from "../../engine/runner/native.ts";

/** One Q4_1 block (ggml `block_q4_1`): f16 scale 0.5, f16 minimum -1, then 16 bytes; low nibbles are elements 0–15. */
const BLOCK = Uint8Array.of(
  0x00,
  0x38,
  0x00,
  0xbc,
  ...Array.from({ length: 16 }, (_, i) => i | ((15 - i) << 4)),
);

describe("dequantize", () => {
  test("gives scale times quant plus minimum, low nibbles first", () => {
    const ascending = Array.from({ length: 16 }, (_, i) => 0.5 * i - 1);
    expect([...dequantize("Q4_1", BLOCK)]).toEqual([...ascending, ...ascending.toReversed()]);
  });

  test("gives nothing for no bytes", () => {
    expect(dequantize("Q4_1", new Uint8Array(0))).toHaveLength(0);
  });

  test.each([1, 19, 21])("refuses %d bytes, which are no whole blocks of 20", (length) => {
    expect(() => dequantize("Q4_1", new Uint8Array(length))).toThrow(/Q4_1|20/);
  });
});
