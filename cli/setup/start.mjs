/** `npm start [-- MODEL] [-- FLAGS]`: sets up what is missing, then serves. Flags go to `kvengine serve` as they are. */

import { spawn } from "node:child_process";
import { constants } from "node:os";
import { join } from "node:path";
import { setup } from "./setup.mjs";
import { root, runScript } from "./tools.mjs";

await runScript(async () => {
  const bun = await setup();
  return serve(bun, process.argv.slice(2));
});

/**
 * Runs the server in a process group of its own, so that Ctrl-C reaches it once and not once from the terminal and once
 * more through npm: the server takes a second signal as "stop at once".
 */
function serve(bun, args) {
  return new Promise((resolve, reject) => {
    const child = spawn(bun, [join(root, "cli", "main.ts"), "serve", ...args], {
      stdio: "inherit",
      detached: true,
    });
    let lastSignalAt = 0;
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
      process.on(signal, () => {
        const now = Date.now();
        // A person's second Ctrl-C comes later than npm's copy of the first.
        if (now - lastSignalAt > 250) child.kill(signal);
        lastSignalAt = now;
      });
    }
    child.on("error", reject);
    child.on("close", (code, signal) => resolve(code ?? 128 + (constants.signals[signal] ?? 0)));
  });
}
