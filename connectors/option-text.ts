/** A connector's options as people read them. */

import type { ConnectorOption, ConnectorOptions } from "./options.ts";

/** One line for each option. `showBytes`: how a size is written. */
export function optionLines(
  options: ConnectorOptions,
  showBytes: (bytes: number) => string = String,
): readonly string[] {
  const valueText = (option: ConnectorOption, value: number | boolean | string): string => {
    if (option.type === "bytes" && typeof value === "number") return showBytes(value);
    return value === "" ? "none" : String(value);
  };
  const allowedText = (option: ConnectorOption): string => {
    switch (option.type) {
      case "boolean":
        return "true or false";
      case "text":
        return "text";
      case "choice":
        return option.choices.join(", ");
      default: {
        const range = `${valueText(option, option.min)} to ${valueText(option, option.max)}`;
        return option.unit === undefined ? range : `${range} ${option.unit}`;
      }
    }
  };
  return Object.entries(options).map(([name, option]) => {
    const standard = valueText(option, option.default);
    return `${name}: ${option.help} [default ${standard}, allowed ${allowedText(option)}]`;
  });
}
