import { describe, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { withoutFolders } from "../../../cli/bench/results/machine.ts";
import { type ResultsPage, resultsPage } from "../../../cli/bench/results/page.ts";
import { readPart, writePart } from "../../../cli/bench/results/part-file.ts";
import {
  readSession,
  roundsOf,
  type SessionData,
  sessionForPage,
} from "../../../cli/bench/results/serve-part.ts";
import { runResult } from "../../../cli/bench/report/run-result.ts";
import { summarize } from "../../../cli/bench/metrics/summary.ts";
import { recordOf, runOf } from "../../support/bench-runs.ts";
import { temporaryFolder } from "../../support/temporary-folder.ts";

const SESSION: SessionData = {
  setting: "random, seed 0; 4 at a time; prefix cache before each run: cold.",
  sides: [
    { label: "llama-server", server: "llama-server b1", command: ["llama-server", "-np", "16"] },
    { label: "kvengine", server: "kvengine 0.1.0", command: ["kvengine", "serve"] },
  ],
  // a b, b a: b is twice as fast.
  results: ["llama-server", "kvengine", "kvengine", "llama-server"].map((label, i) => {
    const run = runOf([recordOf(0, [100, 200]), recordOf(0, [110, 210])], {
      label,
      startedAt: `2026-01-31T23:0${i}:00.000Z`,
      durationMs: (label === "kvengine" ? 1000 : 2000) + i,
    });
    return JSON.parse(JSON.stringify(runResult({ run, summary: summarize(run) }))) as object;
  }) as SessionData["results"],
};

const PAGE: ResultsPage = {
  version: "0.1.0",
  dates: ["2026-01-30T10:00:00.000Z", "2026-01-31T10:00:00.000Z", "2026-01-31T11:00:00.000Z"],
  machine: { processor: "a CPU", cores: "2" },
  engine: [{ title: "Rates", columns: ["test", "tokens/s"], rows: [["pp512", "900 ± 4"]] }],
  served: [sessionForPage("Chat, 4 at a time", SESSION)],
  missing: [],
  commands: ["kvengine bench results smollm2-135m"],
};

describe("the page of results", () => {
  test("has the machine, the grid, each workload with both sides, and how to repeat it", () => {
    const page = resultsPage(PAGE);
    for (const part of [
      "# Results\n\nWritten by `kvengine bench results` 0.1.0, measured on 2026-01-30, 2026-01-31;",
      "| processor | a CPU |",
      "| pp512 | 900 ± 4 |",
      "## Chat, 4 at a time\n\nrandom, seed 0; 4 at a time; prefix cache before each run: cold.",
      "- llama-server: llama-server b1: `llama-server -np 16`",
      "a = llama-server (2 runs), b = kvengine (2 runs); runs in turns",
      "```sh\nkvengine bench results smollm2-135m\n```\n",
    ])
      expect(page).toContain(part);
    const throughput = page.split("\n").find((line) => line.startsWith("| output_throughput"));
    expect(throughput).toEndWith("| b is better |");
    expect(page).not.toContain("Not measured yet");
  });

  test("says what is missing", () => {
    const page = resultsPage({ ...PAGE, engine: [], served: [], missing: ["engines", "chats"] });
    expect(page).toContain("Not measured yet: engines; chats.");
    expect(page).not.toContain("## Engines");
  });

  test("shows no folder of the machine", () => {
    expect(
      withoutFolders(["/x/bun", "/y/cli/main.ts", "serve", "/m/a.gguf", "--port", "0"]),
    ).toEqual(["kvengine", "serve", "a.gguf", "--port", "0"]);
    expect(withoutFolders(["/x/llama-server", "-m", "/m/a.gguf"])).toEqual([
      ...["llama-server", "-m", "a.gguf"],
    ]);
  });
});

describe("a part of it", () => {
  const part = { measuredAt: "2026-01-31T10:00:00.000Z", load: 0.5, data: SESSION };

  test("is read back where it was measured with the same setting", async () => {
    const folder = temporaryFolder();
    await writePart(folder, "chat", "x", part);
    const read = await readPart(folder, "chat", "x");
    expect(read).toEqual(part);
    expect(readSession(read?.data)).toEqual(SESSION);
    expect(await readPart(folder, "chat", "y")).toBeUndefined();
    expect(await readPart(folder, "other", "x")).toBeUndefined();
  });

  test("is measured anew where its file is none", async () => {
    const folder = temporaryFolder();
    for (const text of ["", "{", "[]", '{"setting": "x"}']) {
      writeFileSync(join(folder, "chat.json"), text);
      expect(await readPart(folder, "chat", "x")).toBeUndefined();
    }
    expect(readSession({ setting: "x", sides: [] })).toBeUndefined();
  });

  test("counts whole rounds", () => {
    expect(roundsOf(SESSION)).toBe(2);
    expect(roundsOf({ ...SESSION, results: SESSION.results.slice(0, 3) })).toBe(1);
  });
});
