/** Bodies against their schemas: every refusal names the field, what was found and what is allowed. */

import type { z } from "zod";
import { KvEngineError } from "../errors.ts";
import { nearest } from "../nearest.ts";
import type { JsonBody } from "./body.ts";
import { fieldPath, wrong } from "./field-checks.ts";

/** The body as the schema has it. Throws `invalid_request`. */
export function checkFields<T>(schema: z.ZodType<T>, body: JsonBody): T {
  return checkValue(schema, body.fields, []);
}

/** The same of a part of the body that stands at `at`. */
export function checkValue<T>(schema: z.ZodType<T>, value: unknown, at: readonly PropertyKey[]): T {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  let issue = result.error.issues[0] as z.core.$ZodIssue;
  const path = [...issue.path];
  // A union's own message names all of its forms; where one form matched further in, the place is inside it.
  while (issue.code === "invalid_union") {
    const inner: z.core.$ZodIssue | undefined = issue.errors
      .map((form) => form[0])
      .find((one) => one !== undefined && one.path.length > 0);
    if (inner === undefined) break;
    path.push(...inner.path);
    issue = inner;
  }
  if (issue.code === "unrecognized_keys")
    throw unknownField([...at, ...path], issue.keys[0] as string, keysAt(schema, path));
  throw wrong(fieldPath([...at, ...path]), valueAt(value, path), issue.message);
}

/** The error for a field that there is not. */
export function unknownField(
  path: readonly PropertyKey[],
  key: string,
  known: readonly string[],
): KvEngineError {
  const near = nearest(key, known);
  const name = fieldPath([...path, key.length > 64 ? `${key.slice(0, 64)}…` : key]);
  const hint = near === undefined ? "" : `; the nearest is ${near}`;
  return new KvEngineError("invalid_request", `there is no field ${name}${hint}`, {
    subject: name,
  });
}

function valueAt(fields: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce<unknown>(
    (value, part) => (value as Record<PropertyKey, unknown> | undefined)?.[part],
    fields,
  );
}

/** Keys that an object at this path may have. */
function keysAt(schema: z.core.$ZodType, path: readonly PropertyKey[]): string[] {
  const { def } = schema._zod as unknown as { readonly def: Def };
  if (def.innerType !== undefined) return keysAt(def.innerType, path);
  if (def.options !== undefined) return def.options.flatMap((option) => keysAt(option, path));
  const [first, ...rest] = path;
  if (first === undefined) return Object.keys(def.shape ?? {});
  const inner = def.element ?? def.shape?.[String(first)];
  return inner === undefined ? [] : keysAt(inner, rest);
}

/** Of optional and nullable schemas, unions, objects and arrays. */
interface Def {
  readonly innerType?: z.core.$ZodType;
  readonly options?: readonly z.core.$ZodType[];
  readonly shape?: Readonly<Record<string, z.core.$ZodType>>;
  readonly element?: z.core.$ZodType;
}
