import { describe, expect, test } from "bun:test";
import { envName, OPTIONS, type OptionName } from "../../../engine/config.ts";
import {
  type ConfigSources,
  engineConfig,
  parseValue,
  resolveConfig,
} from "../../../engine/config-values.ts";
import { describeDefault } from "../../../cli/flags.ts";
import { nearest } from "../../../engine/nearest.ts";
import { toKvEngineError } from "../../../engine/errors.ts";
import { COMMANDS, GROUPS, type CommandName, type Option } from "../../../engine/option.ts";

const ROWS = Object.entries(OPTIONS) as [OptionName, Option][];

function resolve(
  sources: Partial<ConfigSources>,
  command: CommandName = "serve",
): ReturnType<typeof resolveConfig> {
  return resolveConfig(command, { flags: new Map(), env: {}, ...sources });
}

function messageOf(body: () => unknown): string {
  try {
    body();
  } catch (thrown) {
    const error = toKvEngineError(thrown);
    expect(error.code).toBe("bad_config");
    return `${error.message}; ${error.hint}`;
  }
  throw new Error("nothing was thrown");
}

describe("the table", () => {
  test("has plain names, so that flags, variables and keys follow from them", () => {
    for (const [name] of ROWS) {
      expect(name).toMatch(/^[a-z]+(-[a-z]+)*$/);
      expect(name.startsWith("no-")).toBe(false);
    }
    expect(new Set(ROWS.map(([name]) => envName(name))).size).toBe(ROWS.length);
  });

  test("says everything of each option", () => {
    for (const [name, option] of ROWS) {
      expect([name, option.help.length > 10, option.help.endsWith(".")]).toEqual([
        name,
        true,
        false,
      ]);
      expect([name, option.commands.length > 0]).toEqual([name, true]);
      for (const command of option.commands) expect(COMMANDS).toContain(command);
      expect(GROUPS).toContain(option.group);
    }
  });

  test("gives a unit for each number, but for plain ones", () => {
    const plain = ["port", "temperature", "seed"];
    for (const [name, option] of ROWS) {
      if ("unit" in option)
        expect([name, option.unit !== ""]).toEqual([name, !plain.includes(name)]);
    }
  });

  test("has defaults and examples that its own rules allow", () => {
    for (const [name, option] of ROWS) {
      if (option.default !== "") {
        expect(parseValue(option, option.default, name)).toEqual(option.default);
      }
      expect(() => parseValue(option, option.example, name)).not.toThrow();
    }
  });

  test("uses a letter once in each command", () => {
    for (const command of COMMANDS) {
      const letters = ROWS.flatMap(([, option]) =>
        option.short && option.commands.includes(command) ? [option.short] : [],
      );
      expect(new Set(letters).size).toBe(letters.length);
      expect(letters).not.toContain("h");
      expect(letters).not.toContain("v");
    }
  });
});

describe("precedence", () => {
  const file = { path: "k.toml", table: { port: 3 } };

  test("flag, then variable, then file, then default", () => {
    const env = { KVENGINE_PORT: "2" };
    expect(resolve({ flags: new Map([["port", "1"]]), env, file }).values.port).toBe(1);
    expect(resolve({ env, file }).values.port).toBe(2);
    expect(resolve({ file }).values.port).toBe(3);
    expect(resolve({}).values.port).toBe(8000);
  });

  test("an empty variable counts as none", () => {
    expect(resolve({ env: { KVENGINE_PORT: "" }, file }).values.port).toBe(3);
  });

  test("a file may hold options of other commands", () => {
    expect(resolve({ file: { path: "k.toml", table: { "n-prompt": [1] } } }).values.port).toBe(
      8000,
    );
  });

  test("a file's values have the file's types or text", () => {
    const table = { "kv-cache-memory": "512MiB", offline: true, threads: 2, host: "::" };
    const { values } = resolve({ file: { path: "k.json", table } });
    expect([values.kvCacheMemory, values.offline, values.threads, values.host]).toEqual([
      536_870_912,
      true,
      2,
      "::",
    ]);
  });
});

describe("defaults", () => {
  test("are the command's own where it has one", () => {
    const temperature = (command: CommandName): number => resolve({}, command).values.temperature;
    expect([temperature("run"), temperature("bench serve")]).toEqual([0.7, 0]);
    expect(describeDefault(OPTIONS.temperature)).toBe(
      "0.7; bench serve: 0; bench throughput: 0; bench kv: 0",
    );
  });
});

describe("values", () => {
  const parse = (name: OptionName, text: unknown): unknown =>
    parseValue(OPTIONS[name], text, `--${name}`);

  test("bytes with and without a unit", () => {
    expect(parse("kv-cache-memory", "1024")).toBe(1024);
    expect(parse("kv-cache-memory", "512MiB")).toBe(2 ** 29);
    expect(parse("kv-cache-memory", "1.5 GiB")).toBe(1.5 * 2 ** 30);
    expect(parse("kv-cache-memory", "2GB")).toBe(2e9);
    for (const bad of ["2G", "-1", "MiB", "1e9", "lots", ""])
      expect(() => parse("kv-cache-memory", bad)).toThrow();
  });

  test("numbers are read whole or not at all", () => {
    for (const bad of [
      "80x",
      "8.5",
      "0x10",
      "",
      " ",
      "1e3",
      "--",
      "NaN",
      "Infinity",
      true,
      null,
      {},
      [1],
    ]) {
      expect(() => parse("port", bad)).toThrow();
    }
    expect(parse("shutdown-timeout", "0.5")).toBe(0.5);
    expect(() => parse("shutdown-timeout", "Infinity")).toThrow();
  });

  test("lists of integers", () => {
    expect(parse("n-prompt", "128,512")).toEqual([128, 512]);
    expect(parse("n-prompt", [1, 2])).toEqual([1, 2]);
    expect(parse("n-prompt", ["1,2", "8-32*2"])).toEqual([1, 2, 8, 16, 32]);
    for (const bad of ["", ",", "1,", "1;2", "a", "4-2", "0-8*2", "1-2000000", [], ["1", "x"]])
      expect(() => parse("n-prompt", bad)).toThrow("or ranges: 128-512+128, 128-1024*2");
  });

  test("pairs of integers, as many as there are", () => {
    expect(parse("n-prompt-gen", "512,128")).toEqual([[512, 128]]);
    expect(parse("n-prompt-gen", ["512,128", "64,4"])).toEqual([
      [512, 128],
      [64, 4],
    ]);
    expect(parse("n-prompt-gen", [[1, 2]])).toEqual([[1, 2]]);
    for (const bad of ["512", "1,2,3", "0,1", "1,1048577", "a,b", ""])
      expect(() => parse("n-prompt-gen", bad)).toThrow("pairs of integers of 1 to 1048576 tokens");
  });

  test("texts: a flag's values, a file's list, and one text with commas or as JSON", () => {
    expect(parse("kv-connector", ["a,b", "c"])).toEqual(["a,b", "c"]);
    expect(parse("kv-connector", [])).toEqual([]);
    expect(parse("kv-connector", "null, ./mine.ts")).toEqual(["null", "./mine.ts"]);
    expect(parse("kv-connector", '["./a,b.ts", "null"]')).toEqual(["./a,b.ts", "null"]);
    for (const bad of ["", ",", "a,", "[", "[1]", '[""]', [""], [1], { a: 1 }, 7, true])
      expect(() => parse("kv-connector", bad)).toThrow("joined by commas or as a JSON list");
  });

  test("numbers without an end, where there is none", () => {
    for (const text of ["inf", "Infinity", "INF"])
      expect(parse("request-rate", text)).toBe(Number.POSITIVE_INFINITY);
    expect(messageOf(() => parse("request-rate", "0"))).toContain("0.000001 to inf");
    expect(() => parse("temperature", "inf")).toThrow();
    expect(describeDefault(OPTIONS["request-rate"])).toBe("inf");
  });

  test("pairs, the lower first", () => {
    expect(parse("speculative-ngram", "1,16")).toEqual([1, 16]);
    expect(parse("speculative-ngram", [3, 3])).toEqual([3, 3]);
    for (const bad of ["3", "1,2,3", "4,3", "0,2", "2,17", "a,b"])
      expect(() => parse("speculative-ngram", bad)).toThrow("the lower first");
  });

  test("what is out of range is told what is allowed", () => {
    expect(messageOf(() => parse("port", "70000"))).toBe(
      "--port: `70000` is not allowed; allowed is an integer of 0 to 65535; an example is `9000`",
    );
    expect(messageOf(() => parse("isa", "avx3"))).toContain(
      "allowed is auto, avx512, avx2, neon, portable; did you mean `avx2`?",
    );
  });

  test("a secret is not repeated in an error", () => {
    expect(messageOf(() => parse("api-key", 12_345))).not.toContain("12345");
  });

  test("the place of a bad value is named", () => {
    expect(messageOf(() => resolve({ env: { KVENGINE_THREADS: "many" } }))).toContain(
      "KVENGINE_THREADS: `many`",
    );
    expect(
      messageOf(() => resolve({ file: { path: "k.toml", table: { threads: -1 } } })),
    ).toContain("`threads` in k.toml: `-1`");
  });

  test("the variable that Kubernetes sets for a service of our name is explained", () => {
    expect(messageOf(() => resolve({ env: { KVENGINE_PORT: "tcp://10.0.0.1:8000" } }))).toContain(
      "enableServiceLinks",
    );
  });
});

describe("the engine's part", () => {
  test("has every option of its group and no other", () => {
    const { values } = resolve({ flags: new Map([["tpot-slo", "0"]]) });
    expect(engineConfig("m.gguf", values)).toEqual({
      modelPath: "m.gguf",
      device: "auto",
      gpuMemoryUtilization: 0.9,
      backend: "auto",
      isa: "auto",
      threads: 0,
      maxNumSeqs: 32,
      maxNumBatchedTokens: 512,
      maxModelLen: 0,
      blockSize: 16,
      numGpuBlocksOverride: 0,
      kvCacheMemory: 0,
      kvCacheDtype: "auto",
      schedulingPolicy: "fcfs",
      tpotSlo: 0,
      enablePrefixCaching: true,
      explain: true,
      prefixHashSeed: "0",
      speculative: "none",
      speculativeTokens: 8,
      speculativeNgram: [2, 4],
      kvConnector: [],
      kvConnectorOptions: "",
      kvConnectorHoldTtl: 30,
      kvConnectorMaxHeld: 0,
      kvConnectorRecallMs: 1000,
      kvConnectorLookupTimeout: 0.25,
      kvConnectorLoadTimeout: 5,
      kvConnectorSlowHook: 1,
      kvConnectorHangTimeout: 10,
      kvOffloadStoreShare: 0.5,
      kvOffloadLink: 0,
      kvDiskPath: "",
      kvDiskSize: 10 * 2 ** 30,
      kvDiskTtl: 0,
      kvDiskDirect: true,
      kvDiskLink: 0,
      kvDiskCompress: "off",
      kvPinBudget: 0.25,
      kvOffloadSize: 0,
    });
  });
});

describe("unknown names", () => {
  test("a key of the file is an error that names the nearest", () => {
    const file = { path: "k.toml", table: { prot: 1 } };
    expect(messageOf(() => resolve({ file }))).toContain(
      "unknown key `prot` in k.toml: did you mean `port`?",
    );
  });

  test("a variable is a warning, since others set variables too", () => {
    const env = {
      KVENGINE_PROT: "1",
      KVENGINE_TMPDIR: "/x",
      KVENGINE_SERVICE_HOST: "10.0.0.1",
      PATH: "/bin",
    };
    expect(resolve({ env }).warnings).toEqual([
      "the variable KVENGINE_PROT means nothing: did you mean KVENGINE_PORT?",
    ]);
  });

  test("the nearest is near", () => {
    expect(nearest("serv", COMMANDS)).toBe("serve");
    expect(nearest("sevre", COMMANDS)).toBe("serve");
    expect(nearest("SERVE", COMMANDS)).toBe("serve");
    expect(nearest("xylophone", COMMANDS)).toBeUndefined();
    expect(nearest("s".repeat(201), COMMANDS)).toBeUndefined();
  });
});
