import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import { commandHelp, optionsTable, rootHelp } from "../../../cli/help.ts";
import {
  createDeclarations,
  DECLARATIONS,
  declarationsText,
} from "../../../cli/setup/declarations.ts";
import { withOptionsTable } from "../../../cli/setup/generate.ts";
import { envName, OPTIONS, optionsOf } from "../../../engine/config.ts";
import { COMMANDS } from "../../../engine/option.ts";

describe("--help", () => {
  test("of the program lists every command", () => {
    for (const command of COMMANDS) expect(rootHelp("1.2.3")).toContain(`  ${command} `);
    expect(rootHelp("1.2.3")).toContain("kvengine 1.2.3");
  });

  for (const command of COMMANDS) {
    test(`of ${command} has each flag with its variable, and examples`, () => {
      const text = commandHelp(command);
      for (const [name] of optionsOf(command)) expect(text).toContain(`env ${envName(name)}]`);
      expect(text).toContain(`Usage: kvengine ${command}`);
      expect(text.slice(text.indexOf("Examples:"))).toContain(`kvengine ${command}`);
    });
  }
});

describe("connectors/declarations.json", () => {
  test("is in step with the interface; `bun cli/setup/generate.ts` writes it anew", async () => {
    const committed = await Bun.file(DECLARATIONS).text();
    expect(committed).toBe(declarationsText(await createDeclarations()));
  }, 60_000);
});

describe("README.md", () => {
  test("has every option in its table", () => {
    for (const name of Object.keys(OPTIONS))
      expect(optionsTable()).toMatch(new RegExp(`--(no-)?${name}[ \`]`));
  });

  test("is in step with the option table; `bun cli/setup/generate.ts` writes it anew", async () => {
    const readme = await Bun.file(join(import.meta.dir, "../../../README.md")).text();
    expect(readme).toBe(withOptionsTable(readme));
  });
});
