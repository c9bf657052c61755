/** What measurements of the disk store share: flights that are waited for, files that are read from the disk, times. */

import { readdirSync } from "node:fs";
import { join } from "node:path";
import { spawnSync } from "node:child_process";
import type { FlightResult, PageTransfers } from "../../../engine/cache/page-transfers.ts";

/** Pages of a flight, as a connector moves them. */
const FLIGHT = 16;

/** Flights of one host pool. */
export class Flights {
  readonly #waiting = new Map<number, (result: FlightResult) => void>();
  #nextId = 0;

  /** What transfers are to call. */
  readonly onResults = (results: readonly FlightResult[]): void => {
    for (const result of results) this.#waiting.get(result.id)?.(result);
  };

  /** Starts a flight; the promise is its end, which must be a good one. */
  fly(start: (id: number) => void): Promise<void> {
    const id = this.#nextId++;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#waiting.set(id, (result) => {
      this.#waiting.delete(id);
      if (result.ok) resolve();
      else reject(new Error(result.error?.message));
    });
    start(id);
    return promise;
  }

  /** So many entries in flights that wait behind each other; `move` gets the first one of each and the one behind its last. */
  async inParts(
    count: number,
    move: (id: number, first: number, end: number) => void,
  ): Promise<void> {
    const flights: Promise<void>[] = [];
    for (let first = 0; first < count; first += FLIGHT) {
      const end = Math.min(count, first + FLIGHT);
      flights.push(this.fly((id) => move(id, first, end)));
    }
    await Promise.all(flights);
  }

  /** Host pages become ready as they come to be used: uses them until all are. Block 1 is stored in some. */
  async untilReady(transfers: PageTransfers): Promise<void> {
    while (transfers.numReady < transfers.numPages) {
      const next = Int32Array.of(Math.max(0, transfers.numReady - 1));
      if (transfers.numReady > 0)
        await this.fly((id) => transfers.store(id, Int32Array.of(1), next, -1));
      await Bun.sleep(1);
    }
  }
}

export function run(command: string, ...args: string[]): void {
  const { status, stderr } = spawnSync(command, args, { encoding: "utf8" });
  if (status !== 0) throw new Error(`${command}: ${stderr}`);
}

/** Writes what is dirty of a folder's files and drops them from the page cache. */
export function dropCaches(path: string): void {
  for (const name of readdirSync(path)) {
    const file = join(path, name);
    run("sync", "-d", file);
    run("dd", `if=${file}`, "iflag=nocache", "count=0", "status=none");
  }
}

export interface Figures {
  readonly seconds: number;
  /** Of all threads of the process. */
  readonly cpuMicros: number;
}

export async function timed(work: () => Promise<void>): Promise<Figures> {
  const [before, start] = [process.cpuUsage(), performance.now()];
  await work();
  const { user, system } = process.cpuUsage(before);
  return { seconds: (performance.now() - start) / 1000, cpuMicros: user + system };
}
