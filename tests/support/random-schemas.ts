/**
 * Seeded JSON Schemas of varied shape. `bounded`: strings, arrays and numbers have an end, so that whatever a model picks, its document has
 * one.
 */

import * as fc from "fast-check";

export type Schema = Readonly<Record<string, unknown>>;

const WORDS = [
  ...[
    "name",
    "city",
    "age",
    "ok",
    "tags",
    "Größe",
    "first-name",
    "a b",
    "x",
    "note",
    'q"q',
    "kind",
  ],
  ...["price", "when", "id", "parts", "left", "right"],
];
const word = fc.constantFrom(...WORDS);

const scalarValue = fc.oneof(
  word,
  fc.integer({ min: -99, max: 999 }),
  fc.boolean(),
  fc.constant(null),
);

function string(bounded: boolean): fc.Arbitrary<Schema> {
  const lengths = fc.record({
    type: fc.constant("string"),
    minLength: fc.nat(3),
    maxLength: fc.integer({ min: 3, max: 12 }),
  });
  return fc.oneof(
    lengths,
    fc
      .constantFrom(
        "^[a-z]{1,8}$",
        "^[A-Z][a-z]{0,6}( [A-Z][a-z]{0,6})?$",
        "^\\d{3}-\\d{4}$",
        "^(red|green|blue)$",
      )
      .map((pattern) => ({ type: "string", pattern })),
    // The others may go on: a fraction of a second has no end.
    fc
      .constantFrom("date", "uuid", "ipv4", ...(bounded ? [] : ["time", "date-time", "email"]))
      .map((format) => ({ type: "string", format })),
    ...(bounded ? [] : [fc.constant({ type: "string" })]),
  );
}

function number(bounded: boolean): fc.Arbitrary<Schema> {
  const range = fc
    .integer({ min: -500, max: 500 })
    .chain((minimum) =>
      fc.nat(2000).map((width) => ({ type: "integer", minimum, maximum: minimum + width })),
    );
  return bounded
    ? range
    : fc.oneof(
        range,
        fc.constantFrom(
          { type: "integer" },
          { type: "number" },
          { type: "number", exclusiveMinimum: 0, maximum: 1 },
        ),
      );
}

function scalar(bounded: boolean): fc.Arbitrary<Schema> {
  return fc.oneof(
    string(bounded),
    number(bounded),
    fc.constantFrom({ type: "boolean" }, { type: "null" }, { type: ["boolean", "null"] }),
    fc.uniqueArray(scalarValue, { minLength: 1, maxLength: 5 }).map((values) => ({ enum: values })),
    fc
      .oneof(scalarValue, fc.array(scalarValue, { maxLength: 2 }))
      .map((value) => ({ const: value })),
  );
}

function array(items: fc.Arbitrary<Schema>, bounded: boolean): fc.Arbitrary<Schema> {
  const sized = fc.record({
    type: fc.constant("array"),
    items,
    minItems: fc.nat(1),
    maxItems: fc.integer({ min: 1, max: 3 }),
  });
  return fc.oneof(
    sized,
    fc
      .array(items, { minLength: 1, maxLength: 3 })
      .map((all) => ({ type: "array", prefixItems: all, items: false, minItems: all.length })),
    ...(bounded ? [] : [items.map((one) => ({ type: "array", items: one }))]),
  );
}

function object(property: fc.Arbitrary<Schema>): fc.Arbitrary<Schema> {
  return fc
    .uniqueArray(fc.tuple(word, property, fc.boolean()), {
      selector: ([key]) => key,
      minLength: 1,
      maxLength: 4,
    })
    .map((entries) => ({
      type: "object",
      properties: Object.fromEntries(entries.map(([key, schema]) => [key, schema])),
      required: entries.filter(([, , isRequired]) => isRequired).map(([key]) => key),
      additionalProperties: false,
    }));
}

function schema(depth: number, bounded: boolean): fc.Arbitrary<Schema> {
  if (depth === 0) return scalar(bounded);
  const inner = schema(depth - 1, bounded);
  return fc.oneof(
    { weight: 2, arbitrary: scalar(bounded) },
    { weight: 4, arbitrary: object(inner) },
    { weight: 2, arbitrary: array(inner, bounded) },
    { weight: 1, arbitrary: fc.tuple(inner, scalar(bounded)).map((anyOf) => ({ anyOf })) },
    {
      weight: 1,
      arbitrary: inner.map((one) => ({
        type: "object",
        properties: { left: { $ref: "#/$defs/part" }, right: { $ref: "#/$defs/part" } },
        required: ["left"],
        additionalProperties: false,
        $defs: { part: one },
      })),
    },
  );
}

/** `count` of them, each an object at its root, as most that are asked for are. */
export function randomSchemas(count: number, seed: number, bounded: boolean): Schema[] {
  const nested = schema(2, bounded).map((one) =>
    withDefinitionsAtRoot({
      type: "object",
      properties: { value: one, kind: { enum: ["a", "b"] } },
      required: ["value"],
      additionalProperties: false,
    }),
  );
  return fc.sample(nested, { numRuns: count, seed });
}

/** References begin at the root. */
function withDefinitionsAtRoot(root: Schema): Schema {
  const definitions: Record<string, unknown> = {};
  const walk = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.map(walk);
    if (typeof value !== "object" || value === null) return value;
    const { $defs, ...rest } = value as Record<string, unknown>;
    const walked = Object.fromEntries(Object.entries(rest).map(([key, one]) => [key, walk(one)]));
    if ($defs === undefined) return walked;
    const name = `part${Object.keys(definitions).length}`;
    definitions[name] = undefined;
    definitions[name] = walk(($defs as Record<string, unknown>)["part"]);
    return renamed(walked, name);
  };
  const walked = walk(root) as Schema;
  return Object.keys(definitions).length === 0 ? walked : { ...walked, $defs: definitions };
}

/** References that are its own, with the name that they have at the root. */
function renamed(value: unknown, name: string): unknown {
  return JSON.parse(
    JSON.stringify(value).replaceAll('"#/$defs/part"', JSON.stringify(`#/$defs/${name}`)),
  );
}
