/** `kvengine doctor`: what this machine has, and why something is not used. */

import { accessSync, constants, existsSync, readdirSync, readFileSync } from "node:fs";
import { totalmem } from "node:os";
import { dlopen, FFIType } from "bun:ffi";
import type { CommandDef } from "citty";
import { MEMORY_SHARE } from "../engine/connectors/host-pool-size.ts";
import { readHubSettings } from "../engine/hub/settings.ts";
import { cpuFeatures, memoryAvailable } from "../engine/runner/native.ts";
import { defineOurCommand } from "./command.ts";
import { EXIT, formatBytes } from "./output.ts";
import { VERSION } from "./version.ts";

interface GpuReport {
  readonly found: boolean;
  /** Where the driver's library is, or why there is none. */
  readonly detail: string;
  /** Devices the kernel's driver shows; they may be there without the library, as in a container without it. */
  readonly devices: readonly string[];
  readonly driverVersion: string | undefined;
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
      cuda: "no: this version has no CUDA backend yet",
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

/** Beside what the dynamic linker searches: where WSL, Debian, Fedora and NixOS keep the driver's library. */
const DRIVER_FOLDERS = [
  "",
  "/usr/lib/wsl/lib/",
  "/usr/lib/x86_64-linux-gnu/",
  "/usr/lib/aarch64-linux-gnu/",
  "/usr/lib64/",
  "/usr/lib64/nvidia/",
  "/usr/local/cuda/compat/",
  "/run/opengl-driver/lib/",
];

function findGpu(): GpuReport {
  const devices = listDevices();
  const kernel = "/proc/driver/nvidia/version";
  const driverVersion = existsSync(kernel)
    ? /Module\s+(?:for \S+\s+)?([\d.]+)/.exec(readFileSync(kernel, "utf8"))?.[1]
    : undefined;
  const refusals: string[] = [];
  for (const place of DRIVER_FOLDERS) {
    const path = `${place}libcuda.so.1`;
    if (place !== "" && !existsSync(path)) continue;
    try {
      const library = dlopen(path, { cuInit: { args: [FFIType.u32], returns: FFIType.i32 } });
      const status = library.symbols.cuInit(0);
      library.close();
      if (status === 0) return { found: true, detail: path, devices, driverVersion };
      refusals.push(`${path}: cuInit returned ${status}`);
    } catch (error) {
      refusals.push(`${path}: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
  return { found: false, detail: refusals.join("; "), devices, driverVersion };
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
    `  ${"driver".padEnd(12)} ${gpu.found ? `found: ${gpu.detail}` : `not found: ${gpu.detail}`}`,
    `  ${"devices".padEnd(12)} ${gpu.devices.join(", ") || "none"}`,
    `  ${"version".padEnd(12)} ${gpu.driverVersion ?? "no kernel driver"}`,
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
