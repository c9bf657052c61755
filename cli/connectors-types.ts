/** `kvengine connectors types`: a package of types only, where editors and TypeScript look for `kvengine/connector`. */

import { existsSync, mkdirSync } from "node:fs";
import { join, resolve } from "node:path";
import type { CommandDef } from "citty";
import declarations from "../connectors/declarations.json" with { type: "json" };
import { KvEngineError } from "../engine/errors.ts";
import { defineOurCommand } from "./command.ts";
import { EXIT } from "./output.ts";
import { VERSION } from "./version.ts";

const command: CommandDef = defineOurCommand("connectors types", async ({ positionals }) => {
  const folder = resolve(positionals[0] ?? ".");
  if (!existsSync(folder)) {
    throw new KvEngineError("bad_config", `there is no folder ${folder}`, { subject: "folder" });
  }
  const target = join(folder, "node_modules", "kvengine");
  try {
    mkdirSync(target, { recursive: true });
    for (const [name, text] of Object.entries({ ...declarations, "package.json": packageText() }))
      await Bun.write(join(target, name), text);
  } catch (cause) {
    throw new KvEngineError("bad_config", `the types cannot be written to ${target}`, {
      subject: "folder",
      cause,
    });
  }
  process.stdout.write(`${target}\n`);
  return EXIT.ok;
});

/** Types and nothing else: the module itself is in the binary. */
function packageText(): string {
  const contents = {
    name: "kvengine",
    version: VERSION,
    description: "Types of kvengine's connector interface; kvengine itself has the module",
    private: true,
    exports: { "./connector": { types: "./connector.d.ts" } },
  };
  return `${JSON.stringify(contents, null, 2)}\n`;
}

export default command;
