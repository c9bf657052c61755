/** A side that answers: its server is there, started where need be, and it is known what it is. */

import { detectTarget, type Target } from "../http/target.ts";
import type { RunOptions } from "../run-options.ts";
import { startChild } from "./child-server.ts";
import type { Side } from "./side.ts";

export interface OpenSide {
  readonly label: string;
  readonly target: Target;
  /** How it was started, where the bench did. */
  readonly command: readonly string[] | undefined;
  /** A run was on it. */
  used: boolean;
  /** Stops a server that was started. */
  close(): Promise<void>;
}

/** Throws what keeps it from answering. */
export async function openSide(
  { label, server }: Side,
  { headers, model, readyTimeoutMs, signal }: RunOptions,
): Promise<OpenSide> {
  if (server.kind === "running") {
    const target = await detectTarget({ baseUrl: server.baseUrl, headers }, model);
    return { label, target, command: undefined, used: false, close: async () => {} };
  }
  const child = await startChild(server.command, readyTimeoutMs, signal);
  try {
    const target = await detectTarget({ baseUrl: child.baseUrl, headers }, model);
    return { label, target, command: child.command, used: false, close: () => child.stop() };
  } catch (error) {
    await child.stop();
    throw error;
  }
}
