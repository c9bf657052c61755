/** The engines of `bench kv`: each has the common options and some of its own, written as on a command line. */

import { camelCase, type OptionName, OPTIONS, type OptionValues } from "../../../engine/config.ts";
import { resolveConfig } from "../../../engine/config-values.ts";
import { KvEngineError } from "../../../engine/errors.ts";
import { parseCommandLine } from "../../flags.ts";
import { splitWords } from "../servers/words.ts";

export interface EngineSide {
  /** Unique among the sides. */
  readonly name: string;
  /** Its own flags, as written. */
  readonly flags: string;
  /** The common options and its own. */
  readonly values: OptionValues;
}

/** Reads `name: flags` of each side. Throws `bad_config` for what is no engine flag and for a name that is there already. */
export function parseSides(texts: readonly string[], common: OptionValues): readonly EngineSide[] {
  const sides = texts.map((text) => parseSide(text, common));
  const names = sides.map(({ name }) => name);
  const twice = names.find((name, i) => names.indexOf(name) !== i);
  if (twice !== undefined) throw refusal(`the name \`${twice}\` is given twice`);
  if (sides.length < 2) throw refusal("one side has nothing to be compared with");
  return sides;
}

function parseSide(text: string, common: OptionValues): EngineSide {
  const [, name = "", rest = ""] = /^\s*([\w.-]+):(.*)$/s.exec(text) ?? [];
  if (name === "") throw refusal(`\`${text}\` has no name`);
  const { flags } = parseCommandLine("bench kv", splitWords(rest, "--side"), []);
  const { values } = resolveConfig("bench kv", { flags, env: {} });
  const all: Readonly<Record<string, unknown>> = values;
  const own = [...flags.keys()].map((flag) => {
    if (!isEngineOption(flag)) throw refusal(`side ${name}: --${flag} is no option of an engine`);
    return [camelCase(flag), all[camelCase(flag)]];
  });
  return {
    name,
    flags: rest.trim(),
    values: { ...common, ...(Object.fromEntries(own) as Partial<OptionValues>) },
  };
}

function isEngineOption(name: OptionName): boolean {
  const { group } = OPTIONS[name];
  return group === "engine" || group === "connectors";
}

function refusal(what: string): KvEngineError {
  return new KvEngineError("bad_config", `--side: ${what}`, {
    subject: "--side",
    hint: 'a side is `name: flags`, as --side "off: --no-enable-prefix-caching" --side "device:"',
  });
}
