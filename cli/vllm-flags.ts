/**
 * Flags of `vllm serve` that mean here what they mean there, but have another name or another notation. They become flags of ours before
 * the command line is read, so that the rest of the program knows nothing of them. What is not here and not in the option table is refused.
 */

import { KvEngineError } from "../engine/errors.ts";

/** Switches that ask for what is always so. */
const ALWAYS_ON: ReadonlySet<string> = new Set([
  "--async-scheduling",
  "--disable-log-requests",
  "--enable-auto-tool-choice",
  "--enable-chunked-prefill",
  "--enable-prompt-tokens-details",
  "--enable-request-id-headers",
  "--enable-server-load-tracking",
  "--no-enable-log-requests",
]);

/** Flags whose other values ask for what there is not. */
const ONLY: Readonly<Record<string, readonly string[]>> = {
  "--api-server-count": ["1"],
  "--data-parallel-size": ["1"],
  "--dtype": ["auto"],
  "--kv-offloading-backend": ["native"],
  "--load-format": ["auto", "gguf"],
  "--pipeline-parallel-size": ["1"],
  "--prefix-caching-hash-algo": ["sha256_cbor"],
  "--stream-interval": ["1"],
  "--tensor-parallel-size": ["1"],
};

/** Flags whose value is written in another way here. */
const RENAMED: Readonly<Record<string, (value: string) => readonly string[]>> = {
  "--kv-cache-memory-bytes": (bytes) => ["--kv-cache-memory", bytes],
  "--kv-offloading-size": (gib) => [
    ...["--kv-connector", "cpu-offload"],
    ...["--kv-offload-size", `${gib}GiB`],
  ],
  "--max-model-len": (length) => ["--max-model-len", modelLength(length)],
  "--reasoning-parser": (name) => ["--reasoning-parser", REASONING[name] ?? name],
  "--spec-method": (method) => ["--speculative", method],
  "--spec-tokens": (count) => ["--speculative-tokens", count],
  "--speculative-config": speculation,
};

/** What there is in the place of flags whose meaning there is not. */
const INSTEAD: Readonly<Record<string, string>> = {
  "--enable-per-request-metrics":
    "the header x-kvengine-timing is always there, and a request's return_timing puts it into the body",
  "--grpc": "there is HTTP only",
  "--kv-transfer-config":
    "connectors are named by --kv-connector, their options by --kv-connector-options",
  "--enable-sleep-mode": "memory is given back when the server ends",
};

/** Names of vLLM's parsers of `<think>`. */
const REASONING: Readonly<Record<string, string>> = { deepseek_r1: "think", qwen3: "think" };

/** Flags that take several values behind one name there. */
const SEVERAL: ReadonlySet<string> = new Set(["--served-model-name", "--api-key"]);

/** The arguments of `serve` as ours. Throws `bad_config` for a value that asks for what there is not. */
export function fromVllm(args: readonly string[]): string[] {
  const ours: string[] = [];
  let hasModel = false;
  for (let i = 0; i < args.length; i++) {
    const arg = args[i] as string;
    if (arg === "--") return [...ours, ...args.slice(i)];
    if (!arg.startsWith("--")) {
      hasModel ||= !arg.startsWith("-") && i === 0;
      ours.push(arg);
      continue;
    }
    const equals = arg.indexOf("=");
    // vLLM takes either.
    const name = (equals < 0 ? arg : arg.slice(0, equals)).replaceAll("_", "-");
    const written = equals < 0 ? undefined : arg.slice(equals + 1);
    if (ALWAYS_ON.has(name) && written === undefined) continue;
    const instead = INSTEAD[name];
    if (instead !== undefined)
      throw new KvEngineError("bad_config", `unknown flag \`${name}\`: ${instead}`, {
        subject: name,
      });
    if (name in ONLY || name in RENAMED) {
      const value = written ?? args[++i];
      if (value === undefined)
        throw new KvEngineError("bad_config", `${name} needs a value`, { subject: name });
      ours.push(...translated(name, value));
      continue;
    }
    ours.push(written === undefined ? name : `${name}=${written}`);
    // Behind the model's name, which is one, there is nothing else that further words could be.
    if (!SEVERAL.has(name) || !hasModel || written !== undefined) continue;
    for (let first = true; args[i + 1]?.startsWith("-") === false; first = false)
      ours.push(...(first ? [] : [name]), args[++i] as string);
  }
  return ours;
}

function translated(name: string, value: string): readonly string[] {
  const rename = RENAMED[name];
  if (rename !== undefined) return rename(value);
  const allowed = ONLY[name] ?? [];
  if (allowed.includes(value)) return [];
  throw refused(name, value, allowed.join(" and "));
}

/** `auto` and `-1`, and `8k` for 8000, `8K` for 8192. */
function modelLength(text: string): string {
  if (text === "auto" || text === "-1") return "0";
  const [, count, unit] = /^(\d+(?:\.\d+)?)([kK])$/.exec(text) ?? [];
  return count === undefined
    ? text
    : String(Math.round(Number(count) * (unit === "k" ? 1000 : 1024)));
}

const NGRAM =
  '{"method": "ngram", "num_speculative_tokens": 4} with prompt_lookup_min and prompt_lookup_max where wanted';

function speculation(json: string): readonly string[] {
  const flag = "--speculative-config";
  let config: unknown;
  try {
    config = JSON.parse(json);
  } catch {
    throw refused(flag, json, NGRAM); // the value is in the message
  }
  if (typeof config !== "object" || config === null) throw refused(flag, json, NGRAM);
  const { method, num_speculative_tokens, prompt_lookup_min, prompt_lookup_max, ...rest } =
    config as Record<string, unknown>;
  if (method !== "ngram" || Object.keys(rest).length > 0) throw refused(flag, json, NGRAM);
  const most = prompt_lookup_max ?? prompt_lookup_min;
  const fewest = prompt_lookup_min ?? prompt_lookup_max;
  return [
    ...["--speculative", "ngram"],
    ...(num_speculative_tokens === undefined
      ? []
      : ["--speculative-tokens", JSON.stringify(num_speculative_tokens)]),
    ...(most === undefined
      ? []
      : ["--speculative-ngram", `${JSON.stringify(fewest)},${JSON.stringify(most)}`]),
  ];
}

function refused(flag: string, value: string, allowed: string): KvEngineError {
  return new KvEngineError(
    "bad_config",
    `${flag}: \`${value}\` is not allowed; allowed is ${allowed}`,
    {
      subject: flag,
    },
  );
}
