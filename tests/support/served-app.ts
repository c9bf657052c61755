/** The HTTP side without a socket over a real engine: a tiny model's, on a backend that computes nothing unless told otherwise. */

import { join } from "node:path";
import type { Hono } from "hono";
import type { EngineConfig } from "../../engine/config.ts";
import { createEngineClient, type EngineClient } from "../../engine/engine-client.ts";
import { loadModel } from "../../engine/models/registry.ts";
import type { AppDeps, Env } from "../../engine/server/deps.ts";
import { createApp } from "../../engine/server/server.ts";
import { createTokenizer } from "../../engine/tokenizer/tokenizer.ts";
import { ENGINE_CONFIG } from "./engine-config.ts";
import { writeTinyModel } from "./tiny-model.ts";

export interface ServedApp {
  readonly app: Hono<Env>;
  readonly client: EngineClient;
  /** A request with a JSON body, where there is one. */
  send(method: string, path: string, body?: unknown, key?: string): Promise<Response>;
}

/** `folder`: where the model is written. */
export async function serveTinyModel(
  folder: string,
  deps: Partial<AppDeps> = {},
  config: Partial<EngineConfig> = {},
): Promise<ServedApp> {
  const modelPath = join(folder, "tiny.gguf");
  await writeTinyModel(modelPath);
  const { vocabulary } = await loadModel(modelPath);
  const backend = { ...ENGINE_CONFIG, device: "cpu", backend: "null" } as const;
  const client = await createEngineClient({ ...backend, ...config, modelPath });
  const text = (id: number | undefined): string => vocabulary.tokens[id ?? -1] ?? "";
  const app = createApp({
    client,
    model: { name: "tiny" },
    tokenizer: createTokenizer(vocabulary),
    special: {
      bosToken: text(vocabulary.bosId),
      eosToken: text(vocabulary.eosId),
      endIds: vocabulary.eosIds,
    },
    chatTemplate: vocabulary.chatTemplate,
    version: "0.1.0",
    ...deps,
  });
  return {
    app,
    client,
    send: async (method, path, body, key) =>
      app.request(path, {
        method,
        headers: {
          ...(body === undefined ? {} : { "content-type": "application/json" }),
          ...(key === undefined ? {} : { authorization: `Bearer ${key}` }),
        },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      }),
  };
}
