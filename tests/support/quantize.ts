/** The plainest quantisers, for tests: they need not be the best, only legal. Layouts: `ggml-common.h` of ggml. */

export type TinyDtype = "F32" | "F16" | "BF16" | "Q4_0" | "Q4_1" | "Q8_0";

const BLOCK = 32;

/** Bytes of `values` in a dtype; for quantised ones their number is a multiple of 32. */
export function quantize(values: Float32Array, dtype: TinyDtype): Uint8Array {
  switch (dtype) {
    case "F32":
      return new Uint8Array(values.slice().buffer);
    case "F16":
      return new Uint8Array(new Float16Array(values).buffer);
    case "BF16":
      return bfloat16(values);
    case "Q4_0":
      return blocks(values, 18, quantizeQ4_0);
    case "Q4_1":
      return blocks(values, 20, quantizeQ4_1);
    case "Q8_0":
      return blocks(values, 34, quantizeQ8_0);
  }
}

function blocks(
  values: Float32Array,
  size: number,
  one: (x: Float32Array, out: DataView) => void,
): Uint8Array {
  const out = new Uint8Array((values.length / BLOCK) * size);
  for (let b = 0; b * BLOCK < values.length; b++) {
    one(values.subarray(b * BLOCK, (b + 1) * BLOCK), new DataView(out.buffer, b * size, size));
  }
  return out;
}

function bfloat16(values: Float32Array): Uint8Array {
  const bits = new Uint32Array(values.slice().buffer);
  // Rounds to nearest, ties to even.
  const rounded = Uint16Array.from(bits, (word) => (word + 0x7fff + ((word >>> 16) & 1)) >>> 16);
  return new Uint8Array(rounded.buffer);
}

function quantizeQ4_0(x: Float32Array, out: DataView): void {
  let extreme = 0;
  for (const value of x) if (Math.abs(value) > Math.abs(extreme)) extreme = value;
  const scale = extreme / -8;
  out.setFloat16(0, scale, true);
  nibbles(x, out, 2, (value) => (scale === 0 ? 8 : value / scale + 8));
}

function quantizeQ4_1(x: Float32Array, out: DataView): void {
  const min = Math.min(...x);
  const scale = (Math.max(...x) - min) / 15;
  out.setFloat16(0, scale, true);
  out.setFloat16(2, min, true);
  nibbles(x, out, 4, (value) => (scale === 0 ? 0 : (value - min) / scale));
}

/** Byte j holds element j in its low half and element j + 16 in its high half. */
function nibbles(
  x: Float32Array,
  out: DataView,
  at: number,
  level: (value: number) => number,
): void {
  const q = Array.from(x, (value) => Math.min(15, Math.max(0, Math.round(level(value)))));
  for (let j = 0; j < BLOCK / 2; j++)
    out.setUint8(at + j, (q[j] ?? 0) | ((q[j + BLOCK / 2] ?? 0) << 4));
}

function quantizeQ8_0(x: Float32Array, out: DataView): void {
  const scale = Math.max(...x.map(Math.abs)) / 127;
  out.setFloat16(0, scale, true);
  for (let j = 0; j < BLOCK; j++)
    out.setInt8(2 + j, scale === 0 ? 0 : Math.round((x[j] ?? 0) / scale));
}
