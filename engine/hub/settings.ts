/** Where models come from and where they are kept: the environment variables of the Hugging Face tools, and our own folder. */

import { homedir } from "node:os";
import { join } from "node:path";
import { KvEngineError } from "../errors.ts";

export type Environment = Readonly<Record<string, string | undefined>>;

export interface HubSettings {
  /** Without a slash at the end. */
  readonly endpoint: string;
  /** Never part of a message. */
  readonly token: string | undefined;
  /** No request may be made. */
  readonly offline: boolean;
  /** The Hugging Face cache: `models--<org>--<name>` folders. */
  readonly cacheDir: string;
  /** Models that are in no Hugging Face repository. */
  readonly modelsDir: string;
}

const DEFAULT_ENDPOINT = "https://huggingface.co";
const TRUE_WORDS = ["1", "ON", "YES", "TRUE"];

export function readHubSettings(env: Environment, offline: boolean): HubSettings {
  const get = (name: string): string | undefined => (env[name] === "" ? undefined : env[name]);
  const cache = get("XDG_CACHE_HOME") ?? join(get("HOME") ?? homedir(), ".cache");
  return {
    endpoint: checkEndpoint(get("HF_ENDPOINT") ?? DEFAULT_ENDPOINT),
    token: get("HF_TOKEN"),
    offline: offline || TRUE_WORDS.includes((get("HF_HUB_OFFLINE") ?? "").toUpperCase()),
    cacheDir: get("HF_HUB_CACHE") ?? join(get("HF_HOME") ?? join(cache, "huggingface"), "hub"),
    modelsDir: join(cache, "kvengine", "models"),
  };
}

function checkEndpoint(endpoint: string): string {
  const url = URL.parse(endpoint);
  if (url?.protocol === "https:" || url?.protocol === "http:") return endpoint.replace(/\/+$/, "");
  throw new KvEngineError(
    "bad_config",
    `HF_ENDPOINT is ${JSON.stringify(endpoint)}, allowed is an http or https address`,
    {
      subject: "HF_ENDPOINT",
    },
  );
}
