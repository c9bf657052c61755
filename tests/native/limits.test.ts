import { describe, expect, test } from "bun:test";
import { LimitMeter } from "../../cli/bench/engine/limits.ts";
import { cpuFeatures, MachineLimits } from "../../engine/runner/native.ts";

describe("the machine's limits", () => {
  const machine = new MachineLimits(2, 3_000_000);
  const features = cpuFeatures();

  test("are there for each instruction set that this processor has, and not for others", () => {
    const has = (
      isa: "avx512" | "avx2" | "neon" | "portable",
      factors: "int8" | "bf16" | "fp32",
    ): boolean => {
      return machine.multiplyRate(isa, factors, 1) !== undefined;
    };
    const avx2 = features.avx2 && features.fma && features.f16c;
    const avx512 = avx2 && features.avx512 && features.avx512Vnni;
    expect([has("avx512", "int8"), has("avx512", "fp32")]).toEqual([avx512, avx512]);
    expect(has("avx512", "bf16")).toBe(avx512 && features.avx512Bf16);
    expect([has("avx2", "int8"), has("avx2", "fp32"), has("avx2", "bf16")]).toEqual([
      avx2,
      avx2,
      false,
    ]);
    expect([has("portable", "int8"), has("portable", "fp32")]).toEqual([true, true]);
    expect(has("portable", "bf16")).toBe(false);
  });

  test("of reading is positive", () => {
    expect(machine.readBandwidth(1)).toBeGreaterThan(0);
  });

  test("no threads are refused", () => {
    expect(() => new MachineLimits(0, 1)).toThrow("threads is 0");
  });

  test("a meter measures the table once and, beside a run, what the work needs", () => {
    const macs = { int8: 5, fp32: 0 };
    const meter = new LimitMeter("portable", 1, {
      weightBytes: 5000,
      kv: [],
      perToken: macs,
      perSample: macs,
    });
    const { read, int8, fp32 } = meter.peaks();
    expect([read > 0, Number.isFinite(int8) && int8 > 0, fp32]).toEqual([true, true, Infinity]);
    const table = meter.table();
    expect([table.threads, table.footprint]).toEqual([1, 5000]);
    expect(Object.keys(table.operations.portable)).toEqual(["int8", "fp32"]);
  });
});
