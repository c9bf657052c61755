/** `npm run build:cuda`: makes the PTX anew that builds embed; `-- --check` only compares it. */

import { join } from "node:path";
import { installPackages } from "./setup.mjs";
import { root, run, runScript, SetupError } from "./tools.mjs";

await runScript(async () => {
  const bun = await installPackages();
  const script = join(root, "kernels", "cuda", "build.ts");
  const result = await run(bun, [script, ...process.argv.slice(2)]);
  if (result.code !== 0)
    throw new SetupError("the CUDA kernels are not built; the message is above");
});
