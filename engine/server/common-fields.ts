/** The body fields that say what is generated, how it is sent and who goes first; the same for chats, completions and responses. */

import { z } from "zod";
import {
  isSessionName,
  MAX_SESSION_NAME,
  SESSION_NAME,
} from "../connectors/sessions/session-query.ts";
import { type CacheControl, cacheControl, ttlMsOf } from "./cache-control.ts";
import { type Field, flag, given, integerIn, says, wrong } from "./field-checks.ts";
import type { JsonBody } from "./body.ts";
import {
  readSamplingFields,
  SAMPLING_SHAPE,
  type SamplingFields,
  type SamplingShape,
} from "./sampling-fields.ts";

import {
  readStructure,
  type ResponseFormat,
  responseFormatField,
  type Structure,
  type StructuredOutputs,
  structuredOutputsField,
} from "./structured/structure.ts";

/** The fields that all endpoints read that generate, checked and with their defaults. */
export interface CompletionOptions extends SamplingFields {
  readonly model: string | undefined;
  readonly stream: boolean;
  /** A last chunk with the usage of the whole request. */
  readonly includeUsage: boolean;
  /** The usage so far in every chunk. */
  readonly continuousUsage: boolean;
  readonly n: number;
  readonly priority: number;
  readonly cacheSalt: string | undefined;
  /** How long the whole prompt is to be pinned, in milliseconds. */
  readonly pinMs: number | undefined;
  /** The conversation that it belongs to, and what else may name it where nothing does: see `sessionOf`. */
  readonly session: string | undefined;
  readonly cacheKey: string | undefined;
  /** Token ids of prompt and answer beside the text. */
  readonly returnTokenIds: boolean;
  /** Where the time went, in the body. */
  readonly returnTiming: boolean;
  /** What the answer's text is to be; undefined = any. */
  readonly structure: Structure | undefined;
  /** For KV connectors. */
  readonly transferParams: Readonly<Record<string, unknown>> | undefined;
  /** Names of fields that were read past. */
  readonly ignored: readonly string[];
}

/** Most characters of a salt. */
const MAX_SALT = 1024;

const SALT = `a non-empty string of at most ${MAX_SALT} characters`;

const SESSION = `a non-empty string of at most ${MAX_SESSION_NAME} characters, none of them a control character`;
export const sessionName: Field<string> = z
  .string(says(SESSION))
  .max(MAX_SESSION_NAME, says(SESSION))
  .regex(SESSION_NAME, says(SESSION))
  .refine((name) => name.isWellFormed(), says(SESSION))
  .nullish();

interface StreamOptions {
  readonly include_usage?: boolean | null | undefined;
  readonly continuous_usage_stats?: boolean | null | undefined;
  readonly include_obfuscation?: boolean | null | undefined;
}

export interface CommonShape extends SamplingShape {
  readonly model: Field<string>;
  readonly stream: Field<boolean>;
  readonly stream_options: Field<StreamOptions>;
  readonly n: Field<number>;
  readonly priority: Field<number>;
  readonly cache_salt: Field<string>;
  readonly session_id: Field<string>;
  readonly prompt_cache_key: Field<string>;
  readonly cache_control: Field<CacheControl>;
  readonly return_token_ids: Field<boolean>;
  readonly return_timing: Field<boolean>;
  readonly kv_transfer_params: Field<Record<string, unknown>>;
  readonly response_format: Field<ResponseFormat>;
  readonly structured_outputs: Field<StructuredOutputs>;
}

export const COMMON_SHAPE: CommonShape = {
  ...SAMPLING_SHAPE,
  model: z.string(says("a string")).nullish(),
  stream: flag,
  stream_options: z
    .strictObject(
      { include_usage: flag, continuous_usage_stats: flag, include_obfuscation: flag },
      says("an object"),
    )
    .nullish(),
  n: integerIn(1, 128, "an integer from 1 to 128"),
  priority: integerIn(Number.MIN_SAFE_INTEGER, Number.MAX_SAFE_INTEGER, "an integer"),
  cache_salt: z.string(says(SALT)).min(1, says(SALT)).max(MAX_SALT, says(SALT)).nullish(),
  session_id: sessionName,
  /** OpenAI's hint of who has the same prompts: it never changes what is found. */
  prompt_cache_key: z.string(says("a string")).nullish(),
  cache_control: cacheControl,
  return_token_ids: flag,
  return_timing: flag,
  kv_transfer_params: z.record(z.string(), z.unknown(), says("an object")).nullish(),
  response_format: responseFormatField,
  structured_outputs: structuredOutputsField,
};

/** What the shape makes of a body. */
type Checked = { readonly [N in keyof CommonShape]?: z.infer<CommonShape[N]> };

/** What checks of single fields leave open. Throws `invalid_request`. */
export function readCommonFields(
  fields: Checked,
  body: JsonBody,
  ignored: readonly string[],
): CompletionOptions {
  const stream = fields.stream ?? false;
  if (!stream && given(fields.stream_options)) {
    throw wrong("stream_options", fields.stream_options, "null unless stream is true");
  }
  if (stream && given(fields.prompt_logprobs))
    throw wrong("prompt_logprobs", fields.prompt_logprobs, "null where stream is true");
  const { prompt_cache_key: hint } = fields;
  // A hint is not refused.
  const cacheKey = given(hint) && isSessionName(hint) ? hint : undefined;
  const structure = readStructure(fields.response_format, fields.structured_outputs);
  if (structure !== undefined && fields.ignore_eos === true)
    throw wrong(
      "ignore_eos",
      true,
      `false where ${structure.field} is given: an answer ends where it is whole`,
    );
  return {
    ...readSamplingFields(fields, body),
    structure,
    model: fields.model ?? undefined,
    stream,
    includeUsage: fields.stream_options?.include_usage ?? false,
    continuousUsage: fields.stream_options?.continuous_usage_stats ?? false,
    n: fields.n ?? 1,
    priority: fields.priority ?? 0,
    cacheSalt: fields.cache_salt?.toWellFormed(),
    pinMs: given(fields.cache_control) ? ttlMsOf(fields.cache_control) : undefined,
    session: fields.session_id ?? undefined,
    cacheKey,
    returnTokenIds: fields.return_token_ids ?? false,
    returnTiming: fields.return_timing ?? false,
    transferParams: fields.kv_transfer_params ?? undefined,
    ignored: [
      ...ignored,
      ...(given(hint) && cacheKey === undefined ? ["prompt_cache_key"] : []),
      ...(fields.stream_options?.include_obfuscation === true
        ? ["stream_options.include_obfuscation"]
        : []),
    ],
  };
}
