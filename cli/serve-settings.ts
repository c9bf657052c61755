/** What `kvengine serve` listens with and whom it lets in: options and the files that they name. */

import type { OptionValues } from "../engine/config.ts";
import { KvEngineError } from "../engine/errors.ts";
import type { ApiKey } from "../engine/server/access/api-keys.ts";
import { parseKeyFile } from "../engine/server/access/key-file.ts";
import type { TlsFiles } from "../engine/server/tls.ts";

/** Keys of flag, variable and file. Throws `bad_config`. */
export async function readApiKeys(values: OptionValues): Promise<readonly ApiKey[]> {
  const named = values.apiKey.map((key, i) => ({ name: `key ${i + 1}`, key }));
  if (values.apiKeyFile === "") return named;
  const keys = parseKeyFile(values.apiKeyFile, await readText(values.apiKeyFile, "--api-key-file"));
  const prior = keys.find(({ priority }) => priority !== undefined);
  if (prior !== undefined && values.schedulingPolicy !== "priority") {
    throw new KvEngineError(
      "bad_config",
      `${values.apiKeyFile}: the key ${prior.name} has a priority, and requests are not scheduled by it`,
      { subject: "--api-key-file", hint: "add --scheduling-policy priority" },
    );
  }
  return [...named, ...keys];
}

/** Throws `bad_config` for one file without the other. */
export function tlsFiles(values: OptionValues): TlsFiles | undefined {
  const { sslCertfile: cert, sslKeyfile: key } = values;
  if (cert === "" && key === "") return undefined;
  if (cert === "" || key === "") {
    const missing = cert === "" ? "--ssl-certfile" : "--ssl-keyfile";
    throw new KvEngineError("bad_config", `TLS needs ${missing} too`, { subject: missing });
  }
  if (values.uds !== "")
    throw new KvEngineError("bad_config", "a Unix socket has no TLS", {
      subject: "--ssl-certfile",
    });
  return { cert, key };
}

/** Throws `bad_config` for a path that is none. */
export function rootPath({ rootPath: path }: OptionValues): string {
  const plain = path.replace(/\/+$/, "");
  if (plain === "" || /^\/[\w./~-]*$/.test(plain)) return plain;
  throw new KvEngineError("bad_config", `--root-path is ${path}; allowed is a path like /llm`, {
    subject: "--root-path",
  });
}

/** Texts that were given one by one, joined by commas, or as a list in JSON, as vLLM's flags take them. */
export function listOf(texts: readonly string[], flag: string): string[] {
  return texts.flatMap((text) => {
    if (!text.startsWith("[")) return text.split(",").map((one) => one.trim());
    try {
      const list: unknown = JSON.parse(text);
      if (Array.isArray(list) && list.every((one) => typeof one === "string")) return list;
    } catch (cause) {
      throw new KvEngineError("bad_config", `${flag}: ${text} is no JSON`, {
        subject: flag,
        cause,
      });
    }
    throw new KvEngineError("bad_config", `${flag}: ${text} is no list of texts`, {
      subject: flag,
    });
  });
}

async function readText(path: string, subject: string): Promise<string> {
  try {
    return await Bun.file(path).text();
  } catch (cause) {
    throw new KvEngineError("bad_config", `${path} cannot be read`, { subject, cause });
  }
}
