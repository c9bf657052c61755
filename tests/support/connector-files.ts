/** Outside connectors as files, for tests that load them as a user's are loaded. */

import { mkdirSync } from "node:fs";
import { dirname, join } from "node:path";

/** A connector called `name`; `body` is the rest of its class, `top` stands before it. */
export function connectorSource(name: string, body: string = "", top: string = ""): string {
  return `import { KvConnector } from "kvengine/connector";
${top}
export default class Outside extends KvConnector {
  static readonly connectorName = "${name}";
  static readonly apiVersion = 1;
  ${body}
}
`;
}

/** Writes a file and answers its path. */
export async function writeSource(folder: string, name: string, source: string): Promise<string> {
  const path = join(folder, name);
  mkdirSync(dirname(path), { recursive: true });
  await Bun.write(path, source);
  return path;
}
