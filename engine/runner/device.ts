/** Which backend computes: what `--device` and `--backend` come to on this machine. Knows no model. */

import { KvEngineError } from "../errors.ts";
import type { CudaStatus } from "./native.ts";

/** What was asked for. */
export interface DeviceChoice {
  /** `auto`, `cpu`, `cuda` or `cuda:N`. */
  readonly device: string;
  /** `auto`, or a backend by name. */
  readonly backend: string;
}

export interface ChosenBackend {
  /** As the native side names it: `cpu`, `cuda:1`, `reference` and so on. */
  readonly backend: string;
  /** Why it is not the GPU, where nobody asked for another one. */
  readonly note?: string;
}

const CUDA = /^cuda(?::(?:0|[1-9]\d{0,3}))?$/;

/** Whether a backend computes on an NVIDIA GPU. */
export function isCuda(backend: string): boolean {
  return CUDA.test(backend);
}

/** Why the CPU computes where a GPU was hoped for, in one line. */
export function noGpuNote(problem: string): string {
  return `no GPU is used, the CPU computes: ${problem}`;
}

/** What helps where a GPU's memory is too small for a model. */
export const DEVICE_MEMORY_HINT: string =
  "take a model with smaller weights, lower --max-num-batched-tokens or --max-num-seqs, free the GPU of other programs, " +
  "or compute elsewhere: --device cuda:N, --device cpu";

/** Whether the CPU is to compute after a GPU that nobody asked for by name could not take the model, for an error with this code. */
export function fallsBackToCpu(choice: DeviceChoice, backend: string, code: string): boolean {
  const isOpen = choice.device === "auto" && choice.backend === "auto";
  return isOpen && isCuda(backend) && (code === "out_of_memory" || code === "unsupported");
}

/** Asks for the GPUs only where the answer matters. Throws `bad_config`. */
export function chooseBackend(
  { device, backend }: DeviceChoice,
  cudaStatus: () => CudaStatus,
): ChosenBackend {
  if (device !== "auto" && device !== "cpu" && !isCuda(device)) {
    throw new KvEngineError("bad_config", `device is ${device}; allowed: auto, cpu, cuda, cuda:N`, {
      subject: "device",
      hint: "kvengine doctor lists the GPUs of this machine",
    });
  }
  if (backend !== "auto") {
    const computesThere = device === backend || (device === "cpu" && !isCuda(backend));
    if (device === "auto" || computesThere) return { backend };
    throw new KvEngineError("bad_config", `--backend ${backend} does not compute on ${device}`, {
      subject: "device",
      hint: "leave one of --device and --backend out",
    });
  }
  if (device === "cpu") return { backend: device };
  const { problem } = cudaStatus();
  if (problem === undefined || problem === null)
    return { backend: device === "auto" ? "cuda" : device };
  if (device === "auto") return { backend: "cpu", note: noGpuNote(problem) };
  throw new KvEngineError("unsupported", `device ${device}: ${problem}`, {
    subject: "device",
    hint: "kvengine doctor tells more; --device cpu computes without a GPU",
  });
}
