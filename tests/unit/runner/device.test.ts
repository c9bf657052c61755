import { describe, expect, test } from "bun:test";
import { chooseBackend, fallsBackToCpu, isCuda } from "../../../engine/runner/device.ts";
import type { CudaStatus } from "../../../engine/runner/native.ts";

const GPU: CudaStatus = {
  driver: "12.4",
  devices: [{ ordinal: 0, name: "GPU", capability: "9.0", totalBytes: 1 }],
};
const NONE: CudaStatus = { devices: [], problem: "there is no NVIDIA driver" };

function unasked(): CudaStatus {
  throw new Error("the GPUs were asked for");
}

describe("which backend computes", () => {
  test("auto takes the GPU that can be used, else the CPU, and says why", () => {
    expect(chooseBackend({ device: "auto", backend: "auto" }, () => GPU)).toEqual({
      backend: "cuda",
    });
    expect(chooseBackend({ device: "auto", backend: "auto" }, () => NONE)).toEqual({
      backend: "cpu",
      note: "no GPU is used, the CPU computes: there is no NVIDIA driver",
    });
  });

  test("what is asked for is taken, and nothing else is looked for", () => {
    expect(chooseBackend({ device: "cpu", backend: "auto" }, unasked)).toEqual({ backend: "cpu" });
    for (const device of ["cuda", "cuda:0", "cuda:12"])
      expect(chooseBackend({ device, backend: "auto" }, () => GPU)).toEqual({ backend: device });
    for (const backend of ["cpu", "reference", "null", "witness"])
      expect(chooseBackend({ device: "auto", backend }, unasked)).toEqual({ backend });
    for (const backend of ["cpu", "reference", "null", "witness"])
      expect(chooseBackend({ device: "cpu", backend }, unasked)).toEqual({ backend });
  });

  test("a device that there cannot be and a backend that does not compute on it are refused", () => {
    for (const device of ["gpu", "cuda:", "cuda:-1", "cuda:01", "CUDA", ""])
      expect(() => chooseBackend({ device, backend: "auto" }, unasked)).toThrow(
        `device is ${device}; allowed: auto, cpu, cuda, cuda:N`,
      );
    for (const [device, backend] of [
      ["cuda", "witness"],
      ["cuda:1", "cpu"],
    ] as const)
      expect(() => chooseBackend({ device, backend }, unasked)).toThrow(
        `--backend ${backend} does not compute on ${device}`,
      );
  });

  test("a GPU that was asked for and cannot be used is an error that says why", () => {
    for (const device of ["cuda", "cuda:1"])
      expect(() => chooseBackend({ device, backend: "auto" }, () => NONE)).toThrow(
        `device ${device}: there is no NVIDIA driver`,
      );
  });

  test("the CPU takes over only where a GPU was hoped for and its memory or its kernels do not do", () => {
    const open = { device: "auto", backend: "auto" };
    expect(fallsBackToCpu(open, "cuda", "out_of_memory")).toBe(true);
    expect(fallsBackToCpu(open, "cuda", "unsupported")).toBe(true);
    for (const [choice, backend, code] of [
      [open, "cpu", "out_of_memory"],
      [open, "cuda", "bad_model"],
      [{ device: "cuda", backend: "auto" }, "cuda", "out_of_memory"],
      [{ device: "auto", backend: "cuda" }, "cuda", "unsupported"],
    ] as const)
      expect(fallsBackToCpu(choice, backend, code)).toBe(false);
  });

  test("names of the cuda backend", () => {
    expect(["cuda", "cuda:3", "cpu", "cuda:x", "reference"].map(isCuda)).toEqual([
      true,
      true,
      false,
      false,
      false,
    ]);
  });
});
