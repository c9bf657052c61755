import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { chmodSync, copyFileSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connectorSource, writeSource } from "../support/connector-files.ts";
import { defaultModelPath } from "../support/default-model.ts";
import { currentExecutable } from "../support/executable.ts";
import { events, post, type ProcessOptions, runCli, startServer } from "../support/server.ts";

let folder: string;
/** An empty folder but for the executable. */
let home: string;
let executable: string;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "kvengine executable-"));
  home = join(folder, "an empty folder");
  mkdirSync(home);
  executable = join(home, "kvengine");
  copyFileSync(await currentExecutable(), executable);
  chmodSync(executable, 0o755);
}, 600_000);

afterAll(() => rmSync(folder, { recursive: true }));

/** Alone: nothing of this machine's environment. */
function alone(env: Record<string, string> = {}): ProcessOptions & { env: Record<string, string> } {
  return { command: [executable], cwd: home, env };
}

describe("the standalone executable", () => {
  test("serves from an empty folder with an empty environment, and leaves nothing behind", async () => {
    await using server = await startServer(["--served-model-name", "m"], alone());
    const body = {
      model: "m",
      prompt: "Once upon a time",
      max_tokens: 8,
      stream: true,
      ignore_eos: true,
    };
    let chunks = 0;
    for await (const _ of events(await post(server, "/v1/completions", body))) chunks += 1;
    expect(chunks).toBeGreaterThanOrEqual(8);
    server.kill("SIGTERM");
    expect(await server.exited).toBe(0);
    expect(readdirSync(home)).toEqual(["kvengine"]);
  }, 120_000);

  test("knows its version and its commands", async () => {
    expect((await runCli(["--version"], alone())).stdout).toMatch(/^kvengine \d/);
    expect((await runCli(["serve", "--help"], alone())).stdout).toContain("--max-num-seqs");
  });

  test("refuses a missing model as the source tree does", async () => {
    const result = await runCli(["serve", "nowhere.gguf"], alone());
    expect([result.code, result.stderr]).toEqual([1, expect.stringContaining("nowhere.gguf")]);
  });

  test("takes no notice of a .env or bunfig.toml in the working folder", async () => {
    const cwd = join(folder, "with env");
    mkdirSync(cwd);
    await Bun.write(join(cwd, ".env"), "KVENGINE_LOG_LEVEL=nonsense\n");
    await Bun.write(join(cwd, "bunfig.toml"), 'preload = ["./missing.ts"]\n');
    expect((await runCli(["doctor"], { ...alone(), cwd })).code).toBe(0);
  });
});

describe("an outside connector", () => {
  const TOP = `import { note } from "./lib/note.ts";`;
  const BODY = `constructor() { super(); console.error(note(this)); }`;
  const NOTE = `import { API_VERSION, KvConnector } from "kvengine/connector";
export const note = (made: unknown): string => \`made \${made instanceof KvConnector} for version \${API_VERSION}\`;
`;

  test("in TypeScript runs in the executable with a neighbour, without a build step", async () => {
    const place = join(folder, "an outside connector");
    await writeSource(place, "lib/note.ts", NOTE);
    await writeSource(place, "mine.ts", connectorSource("mine", BODY, TOP));
    const types = await runCli(["connectors", "types"], { ...alone(), cwd: place });
    expect([types.code, types.stderr]).toEqual([0, ""]);
    const tested = await runCli(["connectors", "test", "./mine.ts"], { ...alone(), cwd: place });
    expect([tested.code, tested.stdout]).toEqual([0, expect.stringContaining("0 do not")]);
    await using server = await startServer(
      ["--kv-connector", "null", "--kv-connector", "./mine.ts"],
      { ...alone(), cwd: place },
    );
    expect(server.stderr()).toContain("made true for version 1");
    expect((await post(server, "/v1/completions", { prompt: "Hi", max_tokens: 2 })).status).toBe(
      200,
    );
    server.kill("SIGTERM");
    expect(await server.exited).toBe(0);
  }, 120_000);

  test("that is wrong is refused by name, with its line", async () => {
    await writeSource(folder, "wrong.ts", "export default class {\n  oops(\n}\n");
    const flags = ["--kv-connector", join(folder, "wrong.ts")];
    const result = await runCli(["serve", defaultModelPath(), ...flags], alone());
    expect([result.code, result.stderr]).toEqual([2, expect.stringContaining("wrong.ts:3:1: ")]);
  });

  test("that does not return from its constructor ends the executable with code 3", async () => {
    const body = "constructor() { super(); for (;;) {} }";
    const path = await writeSource(folder, "loops.ts", connectorSource("loops", body));
    const flags = ["--kv-connector", path, "--kv-connector-hang-timeout", "0.5"];
    const result = await runCli(["serve", defaultModelPath(), "--port", "0", ...flags], alone());
    expect([result.code, result.stderr]).toEqual([3, expect.stringContaining("from constructor")]);
  }, 60_000);
});

describe("the temporary folder", () => {
  const RUN = ["run", "MODEL", "Hello", "--max-tokens", "2", "--temperature", "0"];
  const args = (): string[] => RUN.map((word) => (word === "MODEL" ? defaultModelPath() : word));

  test("that does not exist is passed over", async () => {
    const result = await runCli(args(), alone({ TMPDIR: join(folder, "missing") }));
    expect([result.code, result.stderr]).toEqual([0, expect.not.stringContaining("error")]);
  }, 60_000);

  test("that cannot be written is passed over", async () => {
    // Not even root can write into /proc.
    const result = await runCli(args(), alone({ TMPDIR: "/proc" }));
    expect([result.code, result.stderr]).toEqual([0, expect.not.stringContaining("error")]);
  }, 60_000);

  // Mounting takes root; for other users the two cases above stand for this one.
  test.skipIf(process.getuid?.() !== 0)(
    "that is mounted noexec is passed over",
    async () => {
      const path = join(folder, "noexec");
      mkdirSync(path);
      const options = ["-t", "tmpfs", "-o", "noexec,size=64m", "tmpfs", path];
      const mounted = (await Bun.spawn(["mount", ...options], { stderr: "ignore" }).exited) === 0;
      try {
        // A container's root may not mount; then this is one more folder that works.
        const result = await runCli(args(), alone({ TMPDIR: path }));
        expect([result.code, result.stderr]).toEqual([0, expect.not.stringContaining("error")]);
      } finally {
        if (mounted) await Bun.spawn(["umount", path]).exited;
      }
    },
    60_000,
  );

  test("that KVENGINE_TMPDIR names is left as it was", async () => {
    const path = join(folder, "chosen");
    mkdirSync(path);
    const result = await runCli(args(), alone({ KVENGINE_TMPDIR: path }));
    expect(result.code).toBe(0);
    expect(readdirSync(path)).toEqual([]);
  }, 60_000);
});
