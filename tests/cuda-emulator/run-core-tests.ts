/**
 * `bun run-core-tests.ts SETTINGS PROGRAM FILTERS...`: for `mutate.ts`, in its copy. SETTINGS is a JSON array, an empty PROGRAM is built.
 * Exit code 0 passed, 1 failed, 2 does not compile. */
import { buildEmulator } from "./build.ts";
import { buildCoreTests, runCoreTests } from "./core-tests.ts";

const [settings = "[]", given = "", ...filters] = process.argv.slice(2);
const all: readonly string[] = JSON.parse(settings);
let program: string;
try {
  await buildEmulator(["checked"]);
  program = given === "" ? await buildCoreTests("dev") : given;
} catch (error) {
  console.error(String(error));
  process.exit(2);
}
for (const one of all) {
  const { passed, failure } = await runCoreTests(program, filters, "checked", one);
  if (failure === undefined && passed > 0) continue;
  console.log(failure ?? "no test ran");
  process.exit(1);
}
