import { expect, test } from "bun:test";
import { join } from "node:path";
import { camelCase, OPTIONS } from "../../../engine/config.ts";

const ROOT = join(import.meta.dir, "../../..");

test("every flag of a bench command is read somewhere: one that is not would promise what nothing does", async () => {
  const paths = [...new Bun.Glob("{cli,engine}/**/*.ts").scanSync({ cwd: ROOT })];
  const sources = await Promise.all(
    paths
      .filter((path) => !path.startsWith("engine/options/"))
      .map((path) => Bun.file(join(ROOT, path)).text()),
  );
  const words = new Set(sources.flatMap((text) => text.match(/\w+/g) ?? []));
  const idle = Object.entries(OPTIONS)
    .filter(([, { commands }]) => commands.some((name) => name.startsWith("bench ")))
    .map(([name]) => name)
    // cli/command.ts reads it by its flag's name, before there are values.
    .filter((name) => name !== "config" && !words.has(camelCase(name)));
  expect(idle).toEqual([]);
});
