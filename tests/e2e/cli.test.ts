import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { COMMANDS } from "../../engine/option.ts";
import { defaultModelPath } from "../support/default-model.ts";
import { runCli } from "../support/server.ts";

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "kvengine cli-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

describe("the command line", () => {
  for (const command of COMMANDS) {
    test(`${command} --help prints its flags and exits with 0`, async () => {
      const result = await runCli([...command.split(" "), "--help"]);
      expect(result.code).toBe(0);
      expect(result.stdout).toContain(`Usage: kvengine ${command}`);
      expect(result.stdout).toContain("Examples:");
      expect(result.stderr).toBe("");
    });
  }

  test("--version prints the version", async () => {
    expect(await runCli(["--version"])).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/^kvengine \d+\.\d+\.\d+\n$/),
    });
  });

  test("an unknown command, flag, variable's value or config key exits with 2 and names the nearest", async () => {
    const env = { KVENGINE_PORT: "80000" };
    const config = join(folder, "bad.toml");
    await Bun.write(config, "prot = 1\n");
    const results = [
      [await runCli(["sevre"]), "did you mean `serve`?"],
      [await runCli(["serve", "m", "--porrt", "1"]), "did you mean `--port`?"],
      [await runCli(["serve", "m"], { env }), "allowed is an integer of 0 to 65535"],
      [await runCli(["serve", "m", "--config", config]), "did you mean `port`?"],
    ] as const;
    for (const [result, says] of results) {
      expect(result.code).toBe(2);
      expect(result.stderr).toContain(says);
      expect(result.stdout).toBe("");
    }
  });

  test("a config file is read, TOML and JSON", async () => {
    await Bun.write(join(folder, "good.toml"), '# ours\nport = 0\nlog-level = "nonsense"\n');
    await Bun.write(join(folder, "good.json"), '{"port": 0, "log-level": "nonsense"}');
    for (const name of ["good.toml", "good.json"]) {
      const result = await runCli(["serve", "m", "--config", join(folder, name)]);
      expect(result.stderr).toContain("allowed is silent, error, warn, info, debug");
    }
  });

  test("a config file that is missing, malformed or of another kind is named", async () => {
    await Bun.write(join(folder, "broken.json"), "{");
    await Bun.write(join(folder, "other.yaml"), "port: 1");
    for (const name of ["missing.toml", "broken.json", "other.yaml"]) {
      const result = await runCli(["serve", "m", "--config", join(folder, name)]);
      expect([result.code, result.stderr]).toEqual([2, expect.stringContaining(name)]);
    }
  });
});

describe("run", () => {
  const FLAGS = ["--temperature", "0", "--max-tokens", "24"];

  test("prints the answer alone on standard output", async () => {
    const result = await runCli(["run", defaultModelPath(), "What is two plus two?", ...FLAGS]);
    expect(result.code).toBe(0);
    expect(result.stdout).toStartWith("Two plus two is");
    expect(result.stderr).toContain("tokens/s");
  }, 60_000);

  test("reads its prompt from a pipe, after the words given", async () => {
    const stdin = "What is two plus two?\n";
    const piped = await runCli(["run", defaultModelPath(), ...FLAGS], { stdin });
    const given = await runCli(["run", defaultModelPath(), stdin.trim(), ...FLAGS]);
    expect(piped.stdout).toBe(given.stdout);
  }, 60_000);

  test("without a prompt is refused", async () => {
    expect(await runCli(["run", defaultModelPath()])).toMatchObject({ code: 2, stdout: "" });
  });
});

describe("chat", () => {
  test("answers line by line, remembers, forgets and ends", async () => {
    const stdin = "My name is Zoltan.\nWhat is my name?\n/clear\n/nonsense\n/exit\nnever read\n";
    const result = await runCli(
      ["chat", defaultModelPath(), "--temperature", "0", "--max-tokens", "24"],
      { stdin },
    );
    expect(result.code).toBe(0);
    expect(result.stdout).toContain("Zoltan");
    expect(result.stderr).toContain("forgotten");
    expect(result.stderr).toContain("unknown command /nonsense");
  }, 60_000);
});

describe("inspect, pull and doctor", () => {
  test("inspect shows metadata and tensors by type", async () => {
    const result = await runCli(["inspect", defaultModelPath()]);
    expect(result.code).toBe(0);
    expect(result.stdout).toContain("general.architecture");
    expect(result.stdout).toContain("Q4_1");
  }, 60_000);

  test("inspect --tape shows the operations", async () => {
    expect((await runCli(["inspect", defaultModelPath(), "--tape"])).stdout).toContain("attention");
  }, 60_000);

  test("inspect --json is JSON", async () => {
    const report = JSON.parse((await runCli(["inspect", defaultModelPath(), "--json"])).stdout) as {
      architecture: string;
    };
    expect(report.architecture).toBe("llama");
  }, 60_000);

  test("pull prints the path alone", async () => {
    expect(await runCli(["pull", defaultModelPath()])).toMatchObject({
      code: 0,
      stdout: `${defaultModelPath()}\n`,
    });
  }, 60_000);

  test("doctor reports the processor, and the GPU driver or why there is none", async () => {
    const report = JSON.parse((await runCli(["doctor", "--json"])).stdout) as {
      cpu: { isa: string };
      gpu: { found: boolean; devices: readonly string[]; problem?: string };
      backends: { cuda: string };
    };
    expect(["avx512", "avx2", "neon", "portable"]).toContain(report.cpu.isa);
    const { found, problem } = report.gpu;
    if (!found) expect(problem).toContain("libcuda.so.1");
    expect(report.backends.cuda).toBe(problem === undefined ? "yes" : `no: ${problem}`);
    expect((await runCli(["doctor"])).stdout).toContain("GPU");
  }, 60_000);
});
