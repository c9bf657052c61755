/** What connectors and tiers say of themselves in static fields, checked. Each function throws `invalid`. */

import { RefusedError } from "./errors.ts";
import { type ConnectorOption, type ConnectorOptions, parseOptions } from "./options.ts";
import { showThrown, showValue } from "./safe-text.ts";

const NAME = /^[a-z][a-z0-9-]{0,31}$/;

/** `field` is the static one that holds the name. */
export function checkName(field: "connectorName" | "tierName", name: unknown): string {
  if (name === undefined) {
    const example = `my-${field === "tierName" ? "tier" : "connector"}`;
    throw new RefusedError(
      "invalid",
      `its class has no static \`${field}\`: write \`static readonly ${field} = "${example}";\``,
    );
  }
  if (typeof name === "string" && NAME.test(name)) return name;
  throw new RefusedError(
    "invalid",
    `its ${field} is ${showValue(name)}; allowed are up to 32 of a-z, 0-9 and -, a letter first`,
  );
}

/** It must be the version of the interface that this binary runs. */
export function checkVersion(
  apiVersion: unknown,
  ours: number,
  what: "connector" | "tier",
): asserts apiVersion is number {
  if (apiVersion === undefined)
    throw new RefusedError(
      "invalid",
      `its class has no static \`apiVersion\`: write \`static readonly apiVersion = ${ours};\``,
    );
  if (!Number.isSafeInteger(apiVersion)) {
    throw new RefusedError(
      "invalid",
      `its apiVersion is ${showValue(apiVersion)}; allowed is the whole number ${ours}`,
    );
  }
  if (apiVersion !== ours) {
    throw new RefusedError(
      "invalid",
      `it is written for version ${showValue(apiVersion)} of the ${what} interface; this kvengine runs version ${ours}`,
    );
  }
}

/** A copy of the table, each row with a type, a help and a default that its own rules allow. */
export function checkTable(table: unknown): ConnectorOptions {
  if (typeof table !== "object" || table === null || Array.isArray(table))
    throw new RefusedError("invalid", `its options are ${showValue(table)}; allowed is a table`);
  const rows = Object.entries(table).map(([name, row]) => [name, checkRow(name, row)] as const);
  return Object.fromEntries(rows);
}

function checkRow(name: string, row: unknown): ConnectorOption {
  const wrong = (what: string): RefusedError =>
    new RefusedError("invalid", `its option \`${name}\` ${what}`);
  if (typeof row !== "object" || row === null) throw wrong(`is ${showValue(row)}, not a row`);
  const option = { ...row } as ConnectorOption;
  if (typeof option.help !== "string" || option.help === "")
    throw wrong('has no help: one sentence that says what it does, `help: "…"`');
  switch (option.type) {
    case "integer":
    case "number":
    case "bytes":
      if (typeof option.min !== "number" || typeof option.max !== "number")
        throw wrong("has no range: `min` and `max`");
      break;
    case "choice":
      if (!Array.isArray(option.choices) || option.choices.length === 0)
        throw wrong("has no choices");
      break;
    case "boolean":
    case "text":
      break;
    default:
      throw wrong(
        `has the type ${showValue((row as Partial<ConnectorOption>).type)}; allowed are integer, number, bytes, boolean, text, choice`,
      );
  }
  if (option.default === undefined) throw wrong("has no default");
  try {
    parseOptions({ [name]: option }, { [name]: option.default });
  } catch (thrown) {
    throw wrong(`has a default that it does not allow: ${showThrown(thrown)}`);
  }
  return option;
}
