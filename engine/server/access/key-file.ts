/** The file of `--api-key-file`: TOML with a table `[[key]]` for each API key. */

import { z } from "zod";
import { KvEngineError } from "../../errors.ts";
import { fieldPath } from "../field-checks.ts";
import type { ApiKey } from "./api-keys.ts";

const keySchema = z.strictObject({
  name: z.string().min(1),
  key: z.string().min(1),
  rate: z.number().positive().optional(),
  concurrency: z.int().positive().optional(),
  priority: z.int().optional(),
  cache_salt: z.string().min(1).optional(),
});
const fileSchema = z.strictObject({ key: z.array(keySchema) });

/** Throws `bad_config` with the place of what is wrong. The message never holds a key. */
export function parseKeyFile(path: string, text: string): ApiKey[] {
  let table: unknown;
  try {
    table = Bun.TOML.parse(text);
  } catch {
    // The parser's own message may quote the line, and with it a key.
    throw badFile(path, "is no TOML");
  }
  const result = fileSchema.safeParse(table);
  if (!result.success) {
    const { path: at = [], message } = result.error.issues[0] ?? { message: "" };
    throw badFile(path, `${fieldPath(at)}: ${message}`);
  }
  return result.data.key.map(
    ({ name, key, rate, concurrency, priority, cache_salt: cacheSalt }) => {
      return { name, key, rate, concurrency, priority, cacheSalt };
    },
  );
}

function badFile(path: string, problem: string): KvEngineError {
  return new KvEngineError("bad_config", `${path}: ${problem}`, {
    subject: "--api-key-file",
    hint: 'each key is a table: [[key]] with name = "…", key = "…" and, where wanted, rate (requests a minute), concurrency, priority, cache_salt',
  });
}
