import { describe, expect, test } from "bun:test";
import * as fc from "fast-check";
import { chooseSides } from "../../../cli/bench/serve/sides.ts";
import { parsePeers, parseSide, type Side } from "../../../cli/bench/servers/side.ts";
import { splitWords } from "../../../cli/bench/servers/words.ts";
import { propertyRuns } from "../../support/property-runs.ts";
import { thrownBy } from "../../support/thrown.ts";

const PEERS = parsePeers(["llama-server=/opt/llama-server", "vllm=/opt/vllm"]);

function wordsOf({ server }: Side): readonly string[] {
  return server.kind === "start" ? server.command.words : [server.baseUrl];
}

describe("words", () => {
  test("are split as a shell does it", () => {
    expect(splitWords(`  -a "b c" 'd "e"' f\\ g "" x"y"z `, "x")).toEqual([
      "-a",
      "b c",
      'd "e"',
      "f g",
      "",
      "xyz",
    ]);
    expect(splitWords("", "x")).toEqual([]);
  });

  test("come back from their quoted form", () => {
    fc.assert(
      fc.property(fc.array(fc.string({ maxLength: 12 }), { maxLength: 6 }), (words) => {
        const quoted = words.map((word) => `'${word.replaceAll("'", `'\\''`)}'`).join(" ");
        expect(splitWords(quoted, "x")).toEqual(words);
      }),
      propertyRuns(200),
    );
  });

  test("with an open quote are refused", async () => {
    const error = await thrownBy(() => splitWords(`a "b`, "--server-args"));
    expect([error.code, error.subject]).toEqual(["bad_config", "--server-args"]);
  });
});

describe("a side", () => {
  test("is kvengine with flags, or with none", () => {
    const words = wordsOf(parseSide("a: --max-num-seqs 8", "/m.gguf", PEERS));
    expect(words.slice(-6)).toEqual(["serve", "/m.gguf", "--port", "0", "--max-num-seqs", "8"]);
    for (const text of ["b:", " b: "])
      expect(wordsOf(parseSide(text, "/m.gguf", PEERS)).at(-1)).toBe("0");
  });

  test("is a server that runs, with or without /v1", () => {
    for (const url of ["http://h:1", "http://h:1/", "http://h:1/v1", "http://h:1/v1/"])
      expect(wordsOf(parseSide(`a: ${url}`, undefined, PEERS))).toEqual(["http://h:1"]);
  });

  test("is a peer with its arguments", () => {
    const side = parseSide("c: llama-server -np 8", "/m.gguf", PEERS);
    expect(wordsOf(side)).toEqual([
      "/opt/llama-server",
      ...["-m", "/m.gguf", "--host", "127.0.0.1", "--port", "{port}", "--metrics"],
      ...["-np", "8"],
    ]);
    const vllm = parseSide("v: vllm serve {model} --port {port}", "/m.gguf", PEERS);
    expect(wordsOf(vllm)).toEqual(["/opt/vllm", "serve", "/m.gguf", "--port", "{port}"]);
  });

  test("of another form is refused with the forms there are", async () => {
    const cases = [
      ["--max-num-seqs 8", "does not begin with a name and a colon"],
      ["a: ollama", "begins with `ollama`"],
      ["a: http://h:1 --x", "has more than an address"],
      ["a: ftp://h", "begins with `ftp://h`"],
      ["v: vllm serve", "gets no port"],
    ] as const;
    for (const [text, says] of cases) {
      const error = await thrownBy(() => parseSide(text, "/m.gguf", PEERS));
      expect([error.code, error.message]).toEqual(["bad_config", expect.stringContaining(says)]);
    }
    const error = await thrownBy(() => parseSide("a: x", "/m.gguf", PEERS));
    expect(error.hint).toContain("(llama-server, vllm)");
  });

  test("that is to be started needs a model", async () => {
    expect((await thrownBy(() => parseSide("a:", undefined, PEERS))).subject).toBe("model");
  });
});

describe("peers", () => {
  test("are names of programs, each once", async () => {
    expect(PEERS.get("vllm")).toBe("/opt/vllm");
    for (const bad of [["vllm"], ["=x"], ["a b=x"], ["a=x", "a=y"]])
      expect((await thrownBy(() => parsePeers(bad))).subject).toBe("--peer");
  });
});

describe("the sides of a bench", () => {
  const VALUES = { ab: [], baseUrl: "", peer: [], serverArgs: "", label: "" };

  test("are kvengine alone, with the flags that are given", () => {
    const [side, ...rest] = chooseSides({ ...VALUES, serverArgs: "--threads 1" }, "/m.gguf");
    expect([side?.label, rest.length]).toEqual(["kvengine", 0]);
    expect(side === undefined ? [] : wordsOf(side).slice(-2)).toEqual(["--threads", "1"]);
  });

  test("are a peer alone, or a server that runs", () => {
    const peer = chooseSides({ ...VALUES, peer: ["llama-server=/l"] }, "/m.gguf");
    expect(peer.map(({ label }) => label)).toEqual(["llama-server"]);
    const running = chooseSides({ ...VALUES, baseUrl: "http://h:1", label: "mine" }, undefined);
    expect(running).toEqual([
      { label: "mine", server: { kind: "running", baseUrl: "http://h:1" } },
    ]);
  });

  test("are those of --ab", () => {
    const sides = chooseSides({ ...VALUES, ab: ["a:", "b: http://h:1"] }, "/m.gguf");
    expect(sides.map(({ label }) => label)).toEqual(["a", "b"]);
  });

  test("are refused where the flags contradict each other", async () => {
    const cases = [
      { ab: ["a:"] },
      { ab: ["a:", "a: --threads 1"] },
      { ab: ["a:", "b:"], baseUrl: "http://h:1" },
      { ab: ["a:", "b:"], serverArgs: "--threads 1" },
      { baseUrl: "http://h:1", serverArgs: "--threads 1" },
      { baseUrl: "http://h:1", peer: ["x=/x"] },
      { baseUrl: "localhost:8000" },
      { peer: ["x=/x", "y=/y"] },
    ];
    for (const values of cases) {
      const error = await thrownBy(() => chooseSides({ ...VALUES, ...values }, "/m.gguf"));
      expect(error.code).toBe("bad_config");
    }
  });
});
