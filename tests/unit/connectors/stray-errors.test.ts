import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import { ownersOf } from "../../../engine/connectors/stray-errors.ts";

const ENGINE = join(import.meta.dir, "../../../engine/engine.ts");
const CONNECTORS = [
  { paths: [] },
  { paths: ["/srv/a/kv/first.ts"] },
  { paths: ["/srv/a/kv/second.ts"] },
  { paths: ["/srv/b/third.ts", "/srv/b/tier.ts"] },
];

/** An error whose stack has these files, the innermost first. */
function thrownIn(...files: string[]): Error {
  const frames = files.map((file, i) =>
    i % 2 === 0 ? `    at f (${file}:3:7)` : `    at ${file}:1:1`,
  );
  return Object.assign(new Error("x"), { stack: ["Error: x", ...frames].join("\n") });
}

describe("an error that no hook threw is of", () => {
  const CASES: readonly (readonly [what: string, thrown: unknown, owners: readonly number[]])[] = [
    ["the connector whose file it comes from", thrownIn("/srv/a/kv/second.ts"), [2]],
    [
      "it also when the engine's code was called by it",
      thrownIn(ENGINE, "/srv/a/kv/second.ts"),
      [2],
    ],
    [
      "the one that is nearest to the throw",
      thrownIn("/srv/b/third.ts", "/srv/a/kv/first.ts"),
      [3],
    ],
    ["the one in whose folder a neighbour lies", thrownIn("/srv/b/lib/store.ts"), [3]],
    ["both, where two lie in the neighbour's folder", thrownIn("/srv/a/kv/lib.ts"), [1, 2]],
    [
      "any from outside, when it comes from a package of nobody's",
      thrownIn("/opt/x/node_modules/redis/index.js"),
      [1, 2, 3],
    ],
    ["any from outside, when it shows no place", 5, [1, 2, 3]],
    [
      "any from outside, when its stack cannot be read",
      Object.defineProperty(new Error("x"), "stack", {
        get: () => {
          throw new Error("no");
        },
      }),
      [1, 2, 3],
    ],
    ["nobody but the engine, when only its own code is in it", thrownIn(ENGINE, ENGINE), []],
    ["the engine inside the executable", thrownIn("/$bunfs/root/engine/engine-worker.js"), []],
  ];
  for (const [what, thrown, owners] of CASES) {
    test(what, () => expect(ownersOf(thrown, CONNECTORS)).toEqual(owners));
  }

  test("nobody where all connectors are built in", () => {
    expect(ownersOf(5, [{ paths: [] }])).toEqual([]);
  });
});
