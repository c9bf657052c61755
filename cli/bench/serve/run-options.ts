/** Options of `bench serve` → what all its runs have in common. */

import { OPTIONS, type OptionValues } from "../../../engine/config.ts";
import { KvEngineError } from "../../../engine/errors.ts";
import { asObject, type JsonObject, parseJson } from "../http/json.ts";
import { SATURATION_RULE } from "../load/saturation.ts";
import type { RunOptions } from "../run-options.ts";

type Hooks = Pick<RunOptions, "signal" | "observer" | "countTokens">;

/** Throws `bad_config` for headers and bodies that are none. */
export function runOptions(values: OptionValues, hooks: Hooks): RunOptions {
  return {
    model: values.servedModelName[0] ?? "",
    headers: headersOf(values),
    extraBody: { ...samplingFields(values), ...extraBody(values.extraBody) },
    countChunks: values.continuousUsage,
    patience: {
      connectMs: values.connectTimeout * 1000,
      firstChunkMs: values.firstChunkTimeout * 1000,
      stallMs: values.stallTimeout * 1000,
    },
    readyTimeoutMs: values.readyCheckTimeoutSec * 1000,
    numWarmups: values.numWarmups,
    cacheState: values.cacheState,
    saturation: values.stopOverSaturation ? SATURATION_RULE : undefined,
    ...hooks,
  };
}

/** The temperature always, so that servers with defaults of their own do the same; the others where they were chosen. */
function samplingFields(values: OptionValues): JsonObject {
  const { temperature, topK, topP, minP } = values;
  return {
    temperature,
    ...(topK === OPTIONS["top-k"].default ? {} : { top_k: topK }),
    ...(topP === OPTIONS["top-p"].default ? {} : { top_p: topP }),
    ...(minP === OPTIONS["min-p"].default ? {} : { min_p: minP }),
  };
}

function extraBody(text: string): JsonObject {
  const fields = text === "" ? {} : asObject(parseJson(text));
  if (fields !== undefined) return fields;
  throw new KvEngineError("bad_config", `--extra-body: \`${text}\` is not a JSON object`, {
    subject: "--extra-body",
    hint: `an example is \`${OPTIONS["extra-body"].example}\``,
  });
}

/** A header's name, and a value without a line break: what HTTP would read as another header or another request. */
const HEADER = /^([\w!#$%&'*+.^`|~-]+)=([^\r\n]*)$/;

function headersOf({ header, apiKey }: OptionValues): Record<string, string> {
  const headers: Record<string, string> = {};
  const key = apiKey[0] || process.env["OPENAI_API_KEY"];
  if (key !== undefined && key !== "") headers["authorization"] = `Bearer ${key}`;
  for (const text of header) {
    const [, name, value] = HEADER.exec(text) ?? [];
    if (name === undefined || value === undefined) {
      throw new KvEngineError("bad_config", `--header: \`${text}\` is not NAME=VALUE`, {
        subject: "--header",
        hint: `an example is \`${OPTIONS.header.example}\``,
      });
    }
    headers[name.toLowerCase()] = value;
  }
  return headers;
}
