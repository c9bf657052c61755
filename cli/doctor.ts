/** `kvengine doctor`: what this machine has, and why something is not used. */

import { accessSync, constants, existsSync, readdirSync, readFileSync } from "node:fs";
import { totalmem } from "node:os";
import type { CommandDef } from "citty";
import { MEMORY_SHARE } from "../engine/connectors/host-pool-size.ts";
import { readHubSettings } from "../engine/hub/settings.ts";
import {
  cpuFeatures,
  type CudaStatus,
  cudaStatus,
  memoryAvailable,
} from "../engine/runner/native.ts";
import { defineOurCommand } from "./command.ts";
import { EXIT, formatBytes } from "./output.ts";
import { VERSION } from "./version.ts";

interface GpuReport {
  /** Whether the driver's library is there. */
  readonly found: boolean;
  /** Newest version of CUDA that the driver takes. */
  readonly cudaVersion: string | undefined;
  /** Of the kernel's driver. */
  readonly driverVersion: string | undefined;
  readonly devices: readonly DeviceReport[];
  /** Devices the kernel's driver shows; they may be there without the library, as in a container without it. */
  readonly kernelDevices: readonly string[];
  /** Why no device can be used. */
  readonly problem?: string;
}

interface DeviceReport {
  /** As `--device` takes it. */
  readonly device: string;
  readonly name: string;
  readonly capability: string;
  readonly totalBytes: number;
  /** Why it cannot be used. */
  readonly problem?: string;
}

interface FolderReport {
  readonly path: string;
  readonly state: "writable" | "read only" | "missing";
}

const command: CommandDef = defineOurCommand("doctor", async ({ values }) => {
  const gpu = findGpu();
  const hub = readHubSettings(process.env, true);
  const report = {
    version: VERSION,
    bun: Bun.version,
    platform: `${process.platform}-${process.arch}`,
    libc: libcVersion(),
    cpu: cpuFeatures(),
    memory: { totalBytes: totalmem(), availableBytes: memoryAvailable() },
    gpu,
    backends: {
      cpu: "yes",
      reference: "yes",
      null: "yes, for measurements: computes nothing",
      witness: "yes, for tests: computes nothing",
      cuda: gpu.problem === undefined ? "yes" : `no: ${gpu.problem}`,
    },
    folders: {
      "hub cache": folder(hub.cacheDir),
      models: folder(hub.modelsDir),
      temporary: folder(process.env["TMPDIR"] || "/tmp"),
    },
  };
  process.stdout.write(values.json ? `${JSON.stringify(report, null, 2)}\n` : toText(report));
  return EXIT.ok;
});

function folder(path: string): FolderReport {
  if (!existsSync(path)) return { path, state: "missing" };
  try {
    accessSync(path, constants.W_OK | constants.X_OK);
    return { path, state: "writable" };
  } catch {
    return { path, state: "read only" };
  }
}

/** The oldest version whose drivers take the kernels (`kernels/core/src/backend/cuda/driver.rs`). */
const CUDA_FLOOR = "12.0";

function findGpu(): GpuReport {
  const kernel = "/proc/driver/nvidia/version";
  const driverVersion = existsSync(kernel)
    ? /Module\s+(?:for \S+\s+)?([\d.]+)/.exec(readFileSync(kernel, "utf8"))?.[1]
    : undefined;
  const { driver, devices, problem } = cudaStatus();
  return {
    found: driver !== undefined && driver !== null,
    cudaVersion: driver ?? undefined,
    driverVersion,
    devices: devices.map(deviceReport),
    kernelDevices: listDevices(),
    ...(problem === undefined || problem === null ? {} : { problem }),
  };
}

function deviceReport(device: CudaStatus["devices"][number]): DeviceReport {
  const { ordinal, name, capability, totalBytes, problem } = device;
  const report = { device: `cuda:${ordinal}`, name, capability, totalBytes };
  return problem === undefined || problem === null ? report : { ...report, problem };
}

function listDevices(): string[] {
  if (!existsSync("/dev")) return [];
  return readdirSync("/dev").filter((name) => /^nvidia\d+$/.test(name) || name === "dxg");
}

function libcVersion(): string {
  const { header } = process.report.getReport() as { header?: { glibcVersionRuntime?: string } };
  return header?.glibcVersionRuntime === undefined
    ? "unknown"
    : `glibc ${header.glibcVersionRuntime}`;
}

interface Report {
  readonly version: string;
  readonly bun: string;
  readonly platform: string;
  readonly libc: string;
  readonly cpu: object;
  readonly memory: { readonly totalBytes: number; readonly availableBytes: number };
  readonly gpu: GpuReport;
  readonly backends: Readonly<Record<string, string>>;
  readonly folders: Readonly<Record<string, FolderReport>>;
}

function toText(report: Report): string {
  const { gpu, memory } = report;
  const lines = [
    `kvengine ${report.version} (Bun ${report.bun}, ${report.platform}, ${report.libc})`,
    "",
    "Processor",
    ...Object.entries(report.cpu).map(
      ([name, value]) =>
        `  ${name.padEnd(12)} ${value === true ? "yes" : value === false ? "no" : String(value)}`,
    ),
    "",
    "Memory",
    `  ${"total".padEnd(12)} ${formatBytes(memory.totalBytes)}`,
    `  ${"available".padEnd(12)} ${formatBytes(memory.availableBytes)}`,
    `  ${"host pool".padEnd(12)} ${formatBytes(Math.floor(memory.availableBytes * MEMORY_SHARE))} unless --kv-offload-size says otherwise, where a KV connector keeps pages`,
    "",
    "GPU",
    `  ${"driver".padEnd(12)} ${gpu.driverVersion ?? "no kernel driver"}`,
    `  ${"CUDA".padEnd(12)} ${gpu.cudaVersion === undefined ? "no driver library" : `${gpu.cudaVersion} (at least ${CUDA_FLOOR} is needed)`}`,
    `  ${"in /dev".padEnd(12)} ${gpu.kernelDevices.join(", ") || "none"}`,
    ...gpu.devices.map(
      ({ device, name, capability, totalBytes, problem }) =>
        `  ${device.padEnd(12)} ${name}, compute capability ${capability}, ${formatBytes(totalBytes)}` +
        (problem === undefined ? "" : ` (cannot be used: ${problem})`),
    ),
    "",
    "Backends",
    ...Object.entries(report.backends).map(([name, value]) => `  ${name.padEnd(12)} ${value}`),
    "",
    "Folders",
    ...Object.entries(report.folders).map(
      ([name, { path, state }]) => `  ${name.padEnd(12)} ${path} (${state})`,
    ),
  ];
  return `${lines.join("\n")}\n`;
}

export default command;
