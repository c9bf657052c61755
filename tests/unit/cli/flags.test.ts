import { describe, expect, test } from "bun:test";
import { toKvEngineError } from "../../../engine/errors.ts";
import { type CommandLine, parseCommandLine, type Positional } from "../../../cli/flags.ts";

const MODEL: Positional = { name: "model", help: "a model", required: true };

function serve(...args: string[]): CommandLine {
  return parseCommandLine("serve", args, [MODEL]);
}

function messageOf(body: () => unknown): string {
  try {
    body();
  } catch (thrown) {
    const error = toKvEngineError(thrown);
    expect(error.code).toBe("bad_config");
    return error.message;
  }
  throw new Error("nothing was thrown");
}

describe("what is read", () => {
  test("a value after a blank and after an equals sign", () => {
    expect(serve("m", "--port", "9000", "--host=::1").flags).toEqual(
      new Map([
        ["port", "9000"],
        ["host", "::1"],
      ]),
    );
  });

  test("short forms with the value apart, joined and after an equals sign", () => {
    for (const args of [["-t", "8"], ["-t8"], ["-t=8"]])
      expect(serve("m", ...args).flags.get("threads")).toBe("8");
  });

  test("the same letter means what the command says", () => {
    expect(parseCommandLine("serve", ["-p", "1"], []).flags.get("port")).toBe("1");
    expect(parseCommandLine("bench engine", ["-p", "1,2"], []).flags.get("n-prompt")).toEqual([
      "1,2",
    ]);
  });

  test("short forms of several letters, apart and after an equals sign; a letter with its value goes on", () => {
    const bench = (...args: string[]): CommandLine => parseCommandLine("bench engine", args, []);
    expect(bench("-pg", "512,128").flags.get("n-prompt-gen")).toEqual(["512,128"]);
    expect(bench("-npl=4").flags.get("n-parallel")).toEqual(["4"]);
    expect(bench("-pps").flags.get("shared-prompt")).toBe(true);
    expect(bench("-p64", "-n=8").flags).toEqual(
      new Map([
        ["n-prompt", ["64"]],
        ["n-gen", ["8"]],
      ]),
    );
  });

  test("lists, pairs and texts each time that they are given", () => {
    const { flags } = parseCommandLine(
      "bench engine",
      ["-n", "16", "--n-gen=32,64", "-pg", "1,2", "-pg", "3,4"],
      [],
    );
    expect(flags.get("n-gen")).toEqual(["16", "32,64"]);
    expect(flags.get("n-prompt-gen")).toEqual(["1,2", "3,4"]);
    const kv = parseCommandLine("bench kv", ["--side", "a: --isa avx2", "--side", "b:"], []);
    expect(kv.flags.get("side")).toEqual(["a: --isa avx2", "b:"]);
  });

  test("booleans alone, negated and with a value", () => {
    expect(serve("m", "--no-progress").flags.get("progress")).toBe(false);
    expect(serve("m", "--progress").flags.get("progress")).toBe(true);
    expect(serve("m", "--progress=false").flags.get("progress")).toBe("false");
    expect(serve("--progress", "m").positionals).toEqual(["m"]);
  });

  test("a negative number is a value", () => {
    expect(parseCommandLine("run", ["m", "--seed", "-1"], [MODEL]).flags.get("seed")).toBe("-1");
  });

  test("a flag for several texts is given several times and keeps its order", () => {
    const { flags } = serve("m", "--kv-connector", "null", "--kv-connector=./a,b.ts");
    expect(flags.get("kv-connector")).toEqual(["null", "./a,b.ts"]);
    expect(serve("m", "--kv-connector", "null").flags.get("kv-connector")).toEqual(["null"]);
  });

  test("after -- all is text", () => {
    expect(parseCommandLine("run", ["--", "--port"], [MODEL]).positionals).toEqual(["--port"]);
  });
});

describe("what is refused", () => {
  test("an unknown flag, naming the nearest", () => {
    expect(messageOf(() => serve("m", "--porrt", "9000"))).toBe(
      "unknown flag `--porrt`: did you mean `--port`?",
    );
    expect(messageOf(() => serve("m", "--max-num-seq=8"))).toContain(
      "did you mean `--max-num-seqs`?",
    );
    const run = (): unknown => parseCommandLine("run", ["--max_model_len", "8"], []);
    expect(messageOf(run)).toContain("did you mean `--max-model-len`?");
  });

  test("an unknown flag with nothing near is only named", () => {
    expect(messageOf(() => serve("m", "--quantum-entanglement"))).toBe(
      "unknown flag `--quantum-entanglement`",
    );
  });

  test("a flag of another command", () => {
    expect(messageOf(() => serve("m", "--n-prompt", "8"))).toContain("unknown flag `--n-prompt`");
  });

  test("an unknown flag before a missing model", () => {
    expect(messageOf(() => serve("--porrt=9000"))).toContain("--porrt");
  });

  test("a short flag that does not exist, and a negation of what is no boolean", () => {
    expect(messageOf(() => serve("m", "-x"))).toContain("`-x`");
    expect(messageOf(() => serve("m", "--no-port"))).toContain("`--no-port`");
  });

  test("a flag without its value", () => {
    expect(messageOf(() => serve("m", "--kv-connector", "a", "--kv-connector"))).toContain(
      "--kv-connector needs a value",
    );
    expect(messageOf(() => serve("m", "--port"))).toContain(
      "--port needs a value: an integer of 0 to 65535",
    );
    expect(messageOf(() => serve("m", "--port", "--host", "x"))).toContain("--port needs a value");
  });

  test("a flag given twice", () => {
    expect(messageOf(() => serve("m", "--port", "1", "-p", "2"))).toBe("--port is given twice");
  });

  test("too few and too many arguments", () => {
    expect(messageOf(() => serve())).toContain("<model> is missing");
    expect(messageOf(() => serve("m", "n"))).toContain("`n` is one argument too many");
  });
});
