/** What the program says besides its answers: the logger, errors as text, progress. All of it on standard error. */

import { MultiBar, type SingleBar } from "cli-progress";
import { type ConsolaInstance, createConsola, LogLevels, type LogObject } from "consola";
import { createConsola as createPlainConsola } from "consola/basic";
import { KvEngineError, toKvEngineError } from "../engine/errors.ts";

export type LogLevel = "silent" | "error" | "warn" | "info" | "debug";

/** Exit codes; 128 + n is "ended by signal n", as shells have it. */
export const EXIT = {
  ok: 0,
  failed: 1,
  usage: 2,
  /** A connector's code did not return. */
  connectorHung: 3,
  interrupted: 130,
  terminated: 143,
} as const;

/** Consola would make one line of several whose message is the same, and drop the fields that tell requests apart. */
const NO_THROTTLE = 0;

export function createLogger(
  level: LogLevel,
  format: "pretty" | "json" = "pretty",
): ConsolaInstance {
  const threshold = level === "silent" ? Number.NEGATIVE_INFINITY : LogLevels[level];
  if (format === "json")
    return createPlainConsola({
      level: threshold,
      throttle: NO_THROTTLE,
      reporters: [{ log: writeJsonLine }],
    });
  // Marks and colours are for terminals; a log file gets plain lines.
  const create = process.stderr.isTTY ? createConsola : createPlainConsola;
  return create({
    level: threshold,
    throttle: NO_THROTTLE,
    stdout: process.stderr,
    stderr: process.stderr,
    formatOptions: {
      date: false,
      compact: true,
      colors: process.stderr.isTTY && !process.env["NO_COLOR"],
    },
  });
}

/** One object a line: time, level, message, and the fields that the message came with. */
function writeJsonLine({ date, type, args, level: _level, tag: _tag, ...fields }: LogObject): void {
  const message = args.map((arg) => (typeof arg === "string" ? arg : Bun.inspect(arg))).join(" ");
  const line = { time: date.toISOString(), level: type, message, ...fields };
  process.stderr.write(`${JSON.stringify(line)}\n`);
}

/** An error as people read it. Causes are named; a stack is shown for our own bugs only. */
export function errorText(thrown: unknown): string {
  const error = toKvEngineError(thrown);
  const lines = [`error: ${error.message}`];
  if (error.hint !== undefined) lines.push(`  hint: ${error.hint}`);
  for (let cause = error.cause; cause instanceof Error && cause !== thrown; cause = cause.cause) {
    if (!error.message.includes(cause.message)) lines.push(`  because: ${cause.message}`);
  }
  if (!(thrown instanceof KvEngineError) && thrown instanceof Error && thrown.stack !== undefined) {
    lines.push("  this is a bug of kvengine; where it happened:", thrown.stack);
  }
  return lines.join("\n");
}

export function exitCodeOf(thrown: unknown): number {
  switch (toKvEngineError(thrown).code) {
    case "bad_config":
      return EXIT.usage;
    case "connector_hung":
      return EXIT.connectorHung;
    default:
      return EXIT.failed;
  }
}

export function formatBytes(bytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return unit === 0 ? `${value} B` : `${value.toFixed(value < 10 ? 2 : 1)} ${units[unit]}`;
}

/** How far a download is; the same shape for each part. */
export interface Progress {
  update(label: string, done: number, total: number | undefined): void;
  stop(): void;
}

/** Bars on a terminal; elsewhere one line when a download begins, and nothing where bars are not wanted. */
export function createProgress(
  log: ConsolaInstance,
  wanted: boolean,
  verb: "getting" | "sending" = "getting",
): Progress {
  if (!wanted || !process.stderr.isTTY) return lineProgress(log, wanted, verb);
  const bars = new MultiBar({
    stream: process.stderr,
    clearOnComplete: true,
    hideCursor: true,
    format: "{label} [{bar}] {percentage}% | {done} of {all} | {eta_formatted} left",
  });
  const byLabel = new Map<string, SingleBar>();
  return {
    update(label, done, total): void {
      const payload = {
        label,
        done: formatBytes(done),
        all: total === undefined ? "?" : formatBytes(total),
      };
      let bar = byLabel.get(label);
      if (bar === undefined) {
        bar = bars.create(total ?? done, done, payload);
        byLabel.set(label, bar);
      }
      bar.setTotal(total ?? done);
      bar.update(done, payload);
    },
    stop(): void {
      bars.stop();
    },
  };
}

function lineProgress(log: ConsolaInstance, wanted: boolean, verb: string): Progress {
  const seen = new Set<string>();
  return {
    update(label, _done, total): void {
      if (!wanted || seen.has(label)) return;
      seen.add(label);
      log.info(`${verb} ${label}${total === undefined ? "" : ` (${formatBytes(total)})`} …`);
    },
    stop(): void {},
  };
}
