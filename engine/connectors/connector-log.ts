/** A connector's lines in the engine's log: with its name before them, one line each, and not more than a reader can bear. */

import type { ConnectorLog } from "../../connectors/connector.ts";
import { oneLine, showValue } from "../../connectors/safe-text.ts";

export type LogLevel = "info" | "warn" | "error";
/** Takes a line of the engine's log. Must not throw. */
export type LogLine = (level: LogLevel, message: string) => void;

/** Lines that may come at once, and those that may follow a second. */
const BURST = 50;
const PER_SECOND = 5;
const MAX_LENGTH = 2000;

/** `now`: milliseconds, monotonic. */
export function createConnectorLog(name: string, log: LogLine, now: () => number): ConnectorLog {
  let room = BURST;
  let filledAt = now();
  let dropped = 0;
  const write = (level: LogLevel, message: unknown): void => {
    const at = now();
    room = Math.min(BURST, room + ((at - filledAt) / 1000) * PER_SECOND);
    filledAt = at;
    if (room < 1) {
      dropped++;
      return;
    }
    room--;
    if (dropped > 0) log("warn", `connector ${name}: ${dropped} lines left out: too many at once`);
    dropped = 0;
    const text = typeof message === "string" ? message : showValue(message);
    log(level, `connector ${name}: ${oneLine(text, MAX_LENGTH)}`);
  };
  return {
    info: (message) => write("info", message),
    warn: (message) => write("warn", message),
    error: (message) => write("error", message),
  };
}
