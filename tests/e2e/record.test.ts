/** `kvengine serve --record` as a process, and its trace sent to another one. */

import { beforeAll, describe, expect, test } from "bun:test";
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { loadWorkload } from "../../cli/bench/datasets/registry.ts";
import type { Workload } from "../../cli/bench/types.ts";
import { loadModel } from "../../engine/models/registry.ts";
import { createTokenizer, type Tokenizer } from "../../engine/tokenizer/tokenizer.ts";
import { defaultModelPath } from "../support/default-model.ts";
import { metric, runCli, startServer, type TestServer } from "../support/server.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { readTrace, send, sendAll, traceShape } from "../support/trace-world.ts";
import { workload, workloadOptions } from "../support/workloads.ts";

const folder = temporaryFolder();
let tokenizer: Tokenizer;

beforeAll(async () => {
  tokenizer = createTokenizer((await loadModel(defaultModelPath())).vocabulary);
});

/** Starts a server that records, lets `traffic` use it, and stops it as an operator would. */
async function record(
  name: string,
  traffic: (server: TestServer) => Promise<void>,
): Promise<{ readonly path: string; readonly stderr: string }> {
  const path = join(folder, name);
  await using server = await startServer(["--backend", "null", "--record", path]);
  await traffic(server);
  server.kill("SIGTERM");
  expect(await server.exited).toBe(0);
  return { path, stderr: server.stderr() };
}

function recorded(path: string): Workload {
  return loadWorkload(
    workloadOptions({ "dataset-name": "recorded", "dataset-path": path, "num-prompts": 0 }),
    tokenizer,
  );
}

describe("a recording server", () => {
  test("writes all requests before it ends, and a replay of them is the same traffic", async () => {
    const { path, stderr } = await record("first.jsonl", async (server) => {
      for (const form of ["tokens", "text", "chat"]) {
        const flags = {
          "gsp-num-groups": 2,
          "gsp-prompts-per-group": 3,
          "gsp-system-prompt-len": 100,
          "gsp-question-len": 30,
          "gsp-output-len": 20,
          "prompt-form": form,
        };
        await sendAll(server, workload(tokenizer, "generated-shared-prefix", flags));
      }
      expect(await metric(server, "kvengine:unrecorded_requests_total")).toBe(0);
    });
    expect(stderr).toContain(`recorded 18 requests in ${path}`);
    const lines = await readTrace(path);
    expect(lines).toHaveLength(18);
    expect(lines[0]).toMatchObject({ input_length: 130, output_length: 20, block_size: 16 });
    // What was sent as text had the tokens that were sent as ids.
    const sentTwice = lines.slice(6, 12).map((line) => line.hash_ids);
    expect(sentTwice).toEqual(lines.slice(0, 6).map((line) => line.hash_ids));
    expect(lines.some((line) => line.cached_tokens >= 96)).toBe(true);
    const replay = await record("second.jsonl", (server) => sendAll(server, recorded(path)));
    expect(traceShape(await readTrace(replay.path))).toEqual(traceShape(lines));
  }, 60_000);

  test("keeps its file to its owner, and adds to what is there", async () => {
    const ask = async (server: TestServer): Promise<void> => {
      await send(server, { kind: "text", text: "Once" }, { max_tokens: 2 });
    };
    await record("twice.jsonl", ask);
    const { path } = await record("twice.jsonl", ask);
    expect(await readTrace(path)).toHaveLength(2);
    expect((await stat(path)).mode & 0o777).toBe(0o600);
  }, 60_000);

  test("serves on without room on the disk, and warns once", async () => {
    await using server = await startServer(["--backend", "null", "--record", "/dev/full"]);
    for (let i = 0; i < 3; i++)
      await send(server, { kind: "text", text: `Once ${i}` }, { max_tokens: 2 });
    server.kill("SIGTERM");
    expect(await server.exited).toBe(0);
    expect(server.stderr().match(/requests are missing in the trace/g)).toHaveLength(1);
    expect(server.stderr()).toContain("recorded 0 requests in /dev/full, lost 3");
  }, 60_000);

  test("is not started where the file cannot be written, or contents have no file", async () => {
    const path = join(folder, "no", "such", "folder.jsonl");
    const missing = await runCli(["serve", defaultModelPath(), "--record", path]);
    expect([missing.code, missing.stderr]).toEqual([
      2,
      expect.stringContaining(`the trace ${path} cannot be written`),
    ]);
    const alone = await runCli(["serve", defaultModelPath(), "--record-content"]);
    expect([alone.code, alone.stderr]).toEqual([
      2,
      expect.stringContaining("--record-content needs --record"),
    ]);
  }, 60_000);
});
