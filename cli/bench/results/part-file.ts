/** Parts of the page of results, each in a file, so that what was measured need not be measured again. */

import { loadavg } from "node:os";
import { join } from "node:path";
import { z } from "zod";

const PART = z.looseObject({
  setting: z.string(),
  measured_at: z.string(),
  load: z.number(),
  data: z.unknown(),
});

export interface Part {
  /** ISO 8601. */
  readonly measuredAt: string;
  /** Threads of the whole machine that wanted to run in the minute before: what is above 0 is other work. */
  readonly load: number;
  readonly data: unknown;
}

/** Undefined where there is none, or where it was measured with another setting. */
export async function readPart(
  folder: string,
  name: string,
  setting: string,
): Promise<Part | undefined> {
  const file = Bun.file(pathOf(folder, name));
  if (!(await file.exists())) return undefined;
  const part = PART.safeParse(await file.json().catch(() => undefined));
  if (!part.success || part.data.setting !== setting) return undefined;
  const { measured_at: measuredAt, load, data } = part.data;
  return { measuredAt, load, data };
}

/** Of what is about to be measured. */
export function begun(): Omit<Part, "data"> {
  const [load = 0] = loadavg();
  return { measuredAt: new Date().toISOString(), load };
}

export async function writePart(
  folder: string,
  name: string,
  setting: string,
  { measuredAt, load, data }: Part,
): Promise<Part> {
  const part = { setting, measured_at: measuredAt, load, data };
  await Bun.write(pathOf(folder, name), `${JSON.stringify(part, null, 1)}\n`);
  return { measuredAt, load, data };
}

function pathOf(folder: string, name: string): string {
  return join(folder, `${name}.json`);
}
