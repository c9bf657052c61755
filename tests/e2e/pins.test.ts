/** Pins over a real socket and on the command line. */

import { expect, test } from "bun:test";
import { pinAnswerSchema, pinListSchema } from "../../engine/server/pins/pin-json.ts";
import { type Finished, post, runCli, startServer } from "../support/server.ts";

const FLAGS = ["--num-gpu-blocks-override", "40", "--max-model-len", "512", "--threads", "1"];
const PROMPT = "A pinned prompt stays where it is. ".repeat(12);

async function idOf(server: { readonly url: string }): Promise<string> {
  const response = await post(server, "/v1/completions", { prompt: PROMPT, max_tokens: 1 });
  return ((await response.json()) as { id: string }).id;
}

test("a prompt is pinned, listed and let go on the command line, within the budget", async () => {
  // A page of the default model is 360 KiB: about 85 pages, of which 21 may be pinned.
  await using server = await startServer([
    ...FLAGS,
    ...["--kv-connector", "cpu-offload", "--kv-offload-size", "30MiB"],
  ]);
  const cli = (...args: readonly string[]): Promise<Finished> =>
    runCli(["kv", ...args, "--url", server.url]);
  const id = await idOf(server);
  const small = await cli("pin", id, "--pin-tokens", "40", "--pin-ttl", "60", "--json");
  expect(small.code).toBe(0);
  const pin = pinAnswerSchema.parse(JSON.parse(small.stdout));
  expect(pin).toMatchObject({ tokens: 32, pages: 2, used_pages: 2 });
  expect(pin.budget_pages).toBeGreaterThan(2);
  expect(pin.budget_pages).toBeLessThan(80);
  const listed = await cli("pins");
  expect(listed.stdout).toContain(`${pin.id}  32 tokens in 2 pages until 20`);
  expect(listed.stdout).toContain(`2 of ${pin.budget_pages} pages are pinned`);
  const ended = await cli("unpin", pin.id);
  expect([ended.code, ended.stdout]).toEqual([0, expect.stringContaining(`ended ${pin.id}`)]);
  const [again, none, list] = await Promise.all([
    cli("unpin", pin.id),
    cli("pin", "nobody"),
    cli("pins", "--json"),
  ]);
  expect([again.code, again.stderr]).toEqual([1, expect.stringContaining("no such pin")]);
  expect([none.code, none.stderr]).toEqual([1, expect.stringContaining("is remembered")]);
  expect(pinListSchema.parse(JSON.parse(list.stdout)).data).toEqual([]);
});

test("without a connector that keeps pages nothing is pinned, and the refusal says what to start", async () => {
  await using server = await startServer(FLAGS);
  const refused = await runCli(["kv", "pin", await idOf(server), "--url", server.url]);
  expect([refused.code, refused.stderr]).toEqual([
    1,
    expect.stringContaining("--kv-connector cpu-offload"),
  ]);
});
