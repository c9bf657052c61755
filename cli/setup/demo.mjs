/** `npm run demo [-- MODEL]`: sets up what is missing, then shows what becomes of a prompt's KV (`kvengine demo`). */

import { join } from "node:path";
import { setup } from "./setup.mjs";
import { root, run, runScript } from "./tools.mjs";

await runScript(async () => {
  const bun = await setup();
  // Ctrl-C comes from the terminal to all of its group: the demo ends by itself, and this waits for it.
  for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => {});
  const args = [join(root, "cli", "main.ts"), "demo", ...process.argv.slice(2)];
  return (await run(bun, args)).code;
});
