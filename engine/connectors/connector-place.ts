/** Where a connector named by `--kv-connector` lies. Loads nothing. */

import { existsSync, statSync } from "node:fs";
import { isAbsolute, resolve } from "node:path";
import { BUILT_IN_NAMES } from "../../connectors/registry.ts";
import { KvEngineError } from "../errors.ts";
import { nearest } from "../nearest.ts";

export type ConnectorPlace =
  | { readonly kind: "built-in"; readonly name: string }
  /** An outside module: a file that was named, or the one that a package begins with. */
  | { readonly kind: "file"; readonly path: string };

const SOURCE_FILE = /\.(ts|mts|cts|js|mjs|cjs)$/;

/**
 * `spec`: the name of a built-in connector; a path, which begins with `.` or `/` or has a source file's ending; or a package that is
 * installed for `folder`, from where paths count too. Throws `bad_config` for what is not there.
 */
export function findConnector(spec: string, folder: string): ConnectorPlace {
  if (BUILT_IN_NAMES.includes(spec)) return { kind: "built-in", name: spec };
  if (spec.startsWith(".") || isAbsolute(spec) || SOURCE_FILE.test(spec)) {
    const path = resolve(folder, spec);
    if (existsSync(path) && statSync(path).isFile()) return { kind: "file", path };
    throw new KvEngineError("bad_config", `the connector ${spec} is no file: ${path}`, {
      subject: "--kv-connector",
      hint: `paths count from ${folder}`,
    });
  }
  try {
    return { kind: "file", path: Bun.resolveSync(spec, folder) };
  } catch (cause) {
    const near = nearest(spec, BUILT_IN_NAMES);
    throw new KvEngineError(
      "bad_config",
      `there is no connector \`${spec}\`: it is neither built in nor a package that is installed for ${folder}${near ? `: did you mean \`${near}\`?` : ""}`,
      {
        subject: "--kv-connector",
        hint: `built in are ${BUILT_IN_NAMES.join(", ")}; a file is named by its path, as ./${spec}.ts`,
        cause,
      },
    );
  }
}
