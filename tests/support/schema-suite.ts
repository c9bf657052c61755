/** Schemas of the JSON Schema organisation's test suite (draft 4), as far as later drafts say the same of them. */

import { readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Schema } from "./random-schemas.ts";

const FOLDER = join(
  dirname(fileURLToPath(import.meta.resolve("json-schema-test-suite/package.json"))),
  "tests/draft4",
);
/** Keywords that other drafts spell otherwise, and what refers to other files. */
const OF_DRAFT_4 =
  /"(?:\$ref|id|\$schema|exclusiveMinimum|exclusiveMaximum|dependencies|additionalItems)":|"items":\[/;

export function suiteSchemas(): Schema[] {
  const files = readdirSync(FOLDER).filter((file) => file.endsWith(".json"));
  const groups = files
    .toSorted()
    .flatMap((file): { schema: Schema }[] => JSON.parse(readFileSync(join(FOLDER, file), "utf8")));
  return groups
    .map(({ schema }) => schema)
    .filter((schema) => !OF_DRAFT_4.test(JSON.stringify(schema)));
}
