/** `kvengine inspect`: what is in a model file, and what it becomes. Reads the header only. */

import type { CommandDef } from "citty";
import type { ConsolaInstance } from "consola";
import { toKvEngineError } from "../engine/errors.ts";
import {
  describeGguf,
  describeModel,
  type GgufDescription,
  type ModelDescription,
} from "../engine/models/describe.ts";
import { readGguf } from "../engine/models/gguf.ts";
import { type LoadedModel, loadModel } from "../engine/models/registry.ts";
import { defineOurCommand } from "./command.ts";
import { EXIT, formatBytes } from "./output.ts";
import { findModel } from "./session.ts";

const command: CommandDef = defineOurCommand("inspect", async ({ values, positionals, log }) => {
  const path = await findModel(positionals[0] ?? "", values, log);
  if (values.tape) {
    const { tape } = await loadModel(path);
    process.stdout.write(`${values.json ? JSON.stringify(tape, null, 2) : tapeText(tape)}\n`);
    return EXIT.ok;
  }
  const description = await describe(path, log);
  process.stdout.write(
    `${values.json ? JSON.stringify(description, null, 2) : toText(description)}\n`,
  );
  return EXIT.ok;
});

/** A model that we cannot run may be looked into all the same. */
async function describe(
  path: string,
  log: ConsolaInstance,
): Promise<GgufDescription | ModelDescription> {
  try {
    return describeModel(await loadModel(path));
  } catch (thrown) {
    const description = describeGguf(readGguf(path));
    log.warn(`this version cannot run the model: ${toKvEngineError(thrown).message}`);
    return description;
  }
}

function toText(description: GgufDescription | ModelDescription): string {
  const { metadata, tensorTypes } = description;
  const keyWidth = Math.max(0, ...metadata.map(({ key }) => key.length));
  const lines = [
    `${description.path}: GGUF version ${description.version}, ${formatBytes(description.size)}`,
    "",
    "Metadata",
    ...metadata.map(({ key, value }) => `  ${key.padEnd(keyWidth)}  ${value}`),
    "",
    `Tensors: ${description.tensorCount} with ${description.parameters} parameters in ${formatBytes(description.tensorBytes)}`,
    ...tensorTypes.map(
      ({ type, count, bytes, supported }) =>
        `  ${type.padEnd(8)} ${String(count).padStart(5)}  ${formatBytes(bytes).padStart(10)}${supported ? "" : "  not supported"}`,
    ),
  ];
  if ("architecture" in description) {
    lines.push("", `Model: ${description.name} (${description.architecture})`);
    for (const [key, value] of Object.entries(description.config)) {
      lines.push(
        `  ${key.padEnd(20)} ${typeof value === "object" ? JSON.stringify(value) : String(value)}`,
      );
    }
    lines.push(
      `  ${"KV of one token".padEnd(20)} ${formatBytes(description.kvBytesPerToken)} in 16 bits`,
    );
    lines.push(`  ${"operations".padEnd(20)} ${description.ops}`);
  }
  return lines.join("\n");
}

/** An operation a line: its number, name and label, then its fields. `%n` is a value. */
function tapeText({ values, ops }: LoadedModel["tape"]): string {
  const lines = values.map(({ rows, width }, id) => `%${id}: [${rows}, ${width}]`);
  lines.push("");
  for (const [index, { op, label, ...fields }] of ops.entries()) {
    const rest = Object.entries(fields).map(([name, value]) => `${name}=${fieldText(name, value)}`);
    lines.push(`${String(index).padStart(4)}  ${op.padEnd(14)} ${label}  ${rest.join(" ")}`);
  }
  return lines.join("\n");
}

/** Fields that number a value of the tape; others are plain. */
const VALUE_FIELDS = new Set(["x", "y", "residual", "sum", "qkv", "logits", "out"]);

function fieldText(name: string, value: unknown): string {
  if (VALUE_FIELDS.has(name)) return `%${String(value)}`;
  return typeof value === "string" ? value : JSON.stringify(value);
}

export default command;
