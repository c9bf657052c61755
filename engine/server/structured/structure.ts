/** What an answer's text is to be, as the body's fields say it. */

import { z } from "zod";
import type { Field } from "../field-checks.ts";
import { flag, given, says, wrong } from "../field-checks.ts";
import { jsonOrUndefined } from "../message/json-value.ts";
import { gbnfToLark, isGbnf } from "./gbnf.ts";
import { json, literal, oneOf, regex } from "./lark.ts";

/** A form that a text is to have. */
export interface Structure {
  /** The field that asks for it, for errors. */
  readonly field: string;
  /** The right side of a rule of Lark. */
  readonly rule: string;
}

/** Most characters of a schema, a grammar, a regular expression, or all choices. */
const MAX_TEXT = 262_144;
const MAX_CHOICES = 4096;

const OBJECT = "a JSON Schema object";
const schemaField = z.record(z.string(), z.unknown(), says(OBJECT));
const SOURCE = `a text of 1 to ${MAX_TEXT} characters`;
const source = z.string(says(SOURCE)).min(1, says(SOURCE)).max(MAX_TEXT, says(SOURCE));
const NAME = "1 to 64 letters, digits, _ and -";
const name = z.string(says(NAME)).regex(/^[\w-]{1,64}$/, says(NAME));
const FORMATS =
  '{"type": "text"}, {"type": "json_object"} or {"type": "json_schema", "json_schema": {"name": "…", "schema": {…}}}';
const CHOICES = `1 to ${MAX_CHOICES} texts`;

export interface ResponseFormat {
  readonly type: "text" | "json_object" | "json_schema";
  readonly json_schema?: SchemaFields | null | undefined;
}

interface SchemaFields {
  readonly name: string;
  readonly description?: string | null | undefined;
  readonly schema?: Record<string, unknown> | null | undefined;
  readonly strict?: boolean | null | undefined;
}

export const SCHEMA_SHAPE: {
  readonly name: z.ZodType<string>;
  readonly description: Field<string>;
  readonly schema: Field<Record<string, unknown>>;
  readonly strict: Field<boolean>;
} = {
  name,
  description: z.string(says("a string")).nullish(),
  schema: schemaField.nullish(),
  strict: flag,
};

export const responseFormatField: Field<ResponseFormat> = z
  .strictObject(
    {
      type: z.enum(
        ["text", "json_object", "json_schema"],
        says('"text", "json_object" or "json_schema"'),
      ),
      json_schema: z.strictObject(SCHEMA_SHAPE, says("an object with name and schema")).nullish(),
    },
    says(FORMATS),
  )
  .nullish();

export interface StructuredOutputs {
  readonly json?: string | Record<string, unknown> | null | undefined;
  readonly regex?: string | null | undefined;
  readonly choice?: string[] | null | undefined;
  readonly grammar?: string | null | undefined;
  readonly json_object?: boolean | null | undefined;
  readonly disable_fallback?: boolean | null | undefined;
  readonly disable_any_whitespace?: boolean | null | undefined;
}

/** As vLLM has it. White space is fixed and nothing falls back, whatever is asked. */
export const structuredOutputsField: Field<StructuredOutputs> = z
  .strictObject(
    {
      json: z.union([source, schemaField], says(`${OBJECT}, or its text`)).nullish(),
      regex: source.nullish(),
      choice: z
        .array(z.string(says("a string")), says(CHOICES))
        .min(1, says(CHOICES))
        .max(MAX_CHOICES, says(CHOICES))
        .nullish(),
      grammar: source.nullish(),
      json_object: flag,
      disable_fallback: flag,
      disable_any_whitespace: flag,
    },
    says("an object with one of json, regex, choice, grammar and json_object"),
  )
  .nullish();

/** Throws `invalid_request`. */
export function readStructure(
  format: ResponseFormat | null | undefined,
  structured: StructuredOutputs | null | undefined,
): Structure | undefined {
  const byFormat = given(format) ? ofResponseFormat(format) : undefined;
  const found = given(structured) ? ofStructuredOutputs(structured) : [];
  if (given(structured) && found.length !== 1)
    throw wrong(
      "structured_outputs",
      structured,
      "an object with exactly one of json, regex, choice, grammar and json_object",
    );
  if (byFormat !== undefined && found.length > 0)
    throw wrong("structured_outputs", structured, "null where response_format asks for JSON");
  return byFormat ?? found[0];
}

function ofResponseFormat({ type, json_schema: asked }: ResponseFormat): Structure | undefined {
  if (type !== "json_schema") {
    if (given(asked))
      throw wrong("response_format.json_schema", asked, 'null where the type is not "json_schema"');
    return type === "text" ? undefined : anyObject("response_format");
  }
  if (!given(asked))
    throw wrong("response_format.json_schema", undefined, "an object with name and schema");
  return ofSchema(asked.schema ?? {}, "response_format.json_schema.schema");
}

/** `text.format` of `/v1/responses`. Throws `invalid_request`. */
export function readTextFormat(format: TextFormat | null | undefined): Structure | undefined {
  if (!given(format) || format.type === "text") return undefined;
  if (format.type === "json_object") return anyObject("text.format");
  if (!given(format.schema)) throw wrong("text.format.schema", format.schema, OBJECT);
  return ofSchema(format.schema, "text.format.schema");
}

interface TextFormat {
  readonly type: "text" | "json_object" | "json_schema";
  readonly schema?: Record<string, unknown> | null | undefined;
}

function ofStructuredOutputs(asked: StructuredOutputs): Structure[] {
  const at = (key: string): string => `structured_outputs.${key}`;
  const text = (key: string, rule: string): Structure => ({ field: at(key), rule });
  return [
    ...(given(asked.json) ? [ofSchema(schemaOf(asked.json), at("json"))] : []),
    ...(given(asked.regex) ? [text("regex", regex(asked.regex))] : []),
    ...(given(asked.choice)
      ? [text("choice", oneOf([...new Set(asked.choice)].map(literal)))]
      : []),
    ...(given(asked.grammar) ? [text("grammar", `%lark { ${larkOf(asked.grammar)}\n}`)] : []),
    ...(asked.json_object === true ? [anyObject(at("json_object"))] : []),
  ];
}

function larkOf(grammar: string): string {
  return isGbnf(grammar) ? gbnfToLark(grammar, "structured_outputs.grammar") : grammar;
}

function schemaOf(asked: string | Record<string, unknown>): object {
  const schema = typeof asked === "string" ? jsonOrUndefined(asked) : asked;
  if (typeof schema !== "object" || schema === null || Array.isArray(schema))
    throw wrong("structured_outputs.json", asked, `${OBJECT}, or its text`);
  return schema;
}

function ofSchema(schema: object, field: string): Structure {
  const rule = json(schema);
  if (rule.length > MAX_TEXT)
    throw wrong(field, schema, `a schema of at most ${MAX_TEXT} characters`);
  return { field, rule };
}

function anyObject(field: string): Structure {
  return { field, rule: json({ type: "object" }) };
}
