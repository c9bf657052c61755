/** `npm run build`: writes dist/kvengine, one file that needs neither Node, Bun, Rust nor node_modules. */

import { copyFileSync, mkdirSync, rmSync, statSync } from "node:fs";
import { basename, join } from "node:path";
import { findAddon, setup } from "./setup.mjs";
import { root, run, runScript, say, SetupError } from "./tools.mjs";

await runScript(async () => {
  const bun = await setup();
  const dist = join(root, "dist");
  const output = join(dist, process.platform === "win32" ? "kvengine.exe" : "kvengine");
  mkdirSync(dist, { recursive: true });
  rmSync(output, { force: true });
  const addon = await stripped(findAddon(), join(dist, "addon"));
  const result = await run(bun, [join(root, "cli", "setup", "compile.ts"), addon, output]);
  if (result.code !== 0)
    throw new SetupError("the executable could not be put together; the message is above");
  say(`${output}: ${mebibytes(output)}, of which the native module ${mebibytes(addon)}`);
  rmSync(join(dist, "addon"), { recursive: true });
});

/** A copy of the native module without what only a debugger reads. */
async function stripped(addon, folder) {
  const copy = join(folder, basename(addon));
  mkdirSync(folder, { recursive: true });
  copyFileSync(addon, copy);
  if (process.platform === "linux") {
    const result = await run("strip", ["--strip-debug", copy]).catch(() => undefined);
    if (result?.code !== 0) say("`strip` does not run; the native module keeps its debug lines");
  }
  return copy;
}

function mebibytes(path) {
  return `${(statSync(path).size / 2 ** 20).toFixed(1)} MiB`;
}
