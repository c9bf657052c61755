/** Values of options from flags alone, without the variables of the machine that tests run on. */

import { OPTIONS, type OptionName, type OptionValues } from "../../engine/config.ts";
import { type FlagValue, resolveConfig } from "../../engine/config-values.ts";
import type { CommandName } from "../../engine/option.ts";

export function isOptionName(name: string): name is OptionName {
  return Object.hasOwn(OPTIONS, name);
}

export function resolveFlags(
  command: CommandName,
  flags: ReadonlyMap<OptionName, FlagValue>,
): OptionValues {
  return resolveConfig(command, { flags, env: {} }).values;
}
