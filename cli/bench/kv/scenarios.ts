/** The scenarios of `bench kv` that compare engines without a disk and with one: how large device and host are, and what is to be seen. */

import type { OptionValues } from "../../../engine/config.ts";
import type { WantedEvictions } from "../ab/answers.ts";
import type { LoadPlan } from "../types.ts";
import { parseSides, type EngineSide } from "./sides.ts";
import type { WorkingSet } from "./working-set.ts";

export type DiskScenario = "fits" | "beyond-host" | "slow-disk";

/** Of what comes again, the device has one part in so many, and the host. */
const DEVICE_PART = 6;
const HOST_PART = 3;
/** Bytes a second. */
const SLOW_DISK = 20e6;
/** Of all KV: what lies on the disk beside pages. */
const DISK_ROOM = 2;
const DISK_LEAST = 256 * 2 ** 20;

/** Side `off` has no disk, side `disk` has one, each run in a folder of its own. @param pageBytes of a KV block. */
export function scenarioSides(
  scenario: DiskScenario,
  values: OptionValues,
  { blocks, total, longest }: WorkingSet,
  { maxConcurrency }: LoadPlan,
  pageBytes: number,
): readonly EngineSide[] {
  const diskBytes = Math.ceil(Math.max(DISK_LEAST, DISK_ROOM * total * pageBytes));
  const disk = `--kv-disk-path ${RUN_FOLDER} --kv-disk-size ${diskBytes}`;
  if (scenario === "fits") {
    // The device is as large as it is anywhere, unless the user says how large: what does not fit gives no verdict.
    return parseSides(["off:", `disk: --kv-connector cpu-offload ${disk}`], values);
  }
  const running = longest * Math.min(maxConcurrency, values.maxNumSeqs);
  const numBlocks = 1 + Math.max(running, Math.floor(blocks / DEVICE_PART));
  const common = { ...values, numGpuBlocksOverride: numBlocks };
  const host = `--kv-connector cpu-offload --kv-offload-size ${Math.floor(blocks / HOST_PART) * pageBytes}`;
  const link = scenario === "slow-disk" ? ` --kv-disk-link ${SLOW_DISK}` : "";
  return parseSides([`off: ${host}`, `disk: ${host} ${disk}${link}`], common);
}

/** Stands for the folder of a run where a side's flags are written. */
export const RUN_FOLDER = "RUN";

/** `some` where that KV comes back is what a side is to do better. */
export function wantedEvictions(scenario: DiskScenario | "sides" | "restart"): WantedEvictions {
  switch (scenario) {
    case "sides":
    case "beyond-host":
      return "some";
    case "fits":
      return "none";
    case "slow-disk":
    case "restart":
      return "any";
  }
}
