/** Run by Bun for build.mjs: `bun cli/setup/compile.ts ADDON OUTPUT` writes the standalone executable with that addon inside. */

import { join } from "node:path";

const [addon = "", outfile = ""] = process.argv.slice(2);
const root = join(import.meta.dir, "..", "..");

const result = await Bun.build({
  // Both under one root, so that the worker keeps its path: engine-client.ts starts it by that.
  root,
  entrypoints: [join(root, "cli", "main.ts"), join(root, "engine", "engine-worker.ts")],
  target: "bun",
  // Names stay: a stack in an error report must mean something.
  minify: { syntax: true, whitespace: true },
  // A user's .env and bunfig.toml in the working folder are none of our business.
  compile: { outfile, autoloadDotenv: false, autoloadBunfig: false },
  plugins: [
    {
      name: "stripped-addon",
      setup(build): void {
        build.onResolve({ filter: /kvengine\.[\w-]+\.node$/ }, ({ path }) =>
          addon.endsWith(path.replace(/^.*\//, "/")) ? { path: addon } : undefined,
        );
      },
    },
  ],
});
for (const message of result.logs) process.stderr.write(`${message.message}\n`);
process.exitCode = result.success ? 0 : 1;
