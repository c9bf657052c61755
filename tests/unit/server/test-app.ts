/** An app over a fake engine and a byte tokenizer: token n is byte n, and the fake says "Hello" unless told otherwise. */

import type { Hono } from "hono";
import type { KvEngineError } from "../../../engine/errors.ts";
import type { AppDeps, Env } from "../../../engine/server/deps.ts";
import { createApp } from "../../../engine/server/server.ts";
import { ByteTokenizer, EOS_ID } from "../../support/byte-tokenizer.ts";
import { FakeEngineClient } from "../../support/fake-engine-client.ts";

export const TEMPLATE =
  "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}[assistant]";
export const USER = [{ role: "user", content: "hi" }] as const;

export interface TestApp {
  readonly app: Hono<Env>;
  readonly client: FakeEngineClient;
  /** Errors that are no client's fault. */
  readonly errors: KvEngineError[];
  readonly post: (
    path: string,
    body: unknown,
    headers?: Record<string, string>,
  ) => Promise<Response>;
  readonly chat: (body: object) => Promise<Response>;
  readonly complete: (body: object) => Promise<Response>;
}

export function testApp(deps: Partial<AppDeps> = {}): TestApp {
  const client = new FakeEngineClient();
  const errors: KvEngineError[] = [];
  const app = createApp({
    client,
    model: { name: "tiny", aliases: ["org/tiny"] },
    tokenizer: new ByteTokenizer(),
    special: { bosToken: "<s>", eosToken: "</s>", endIds: [EOS_ID] },
    chatTemplate: TEMPLATE,
    version: "0.1.0",
    onError: (error) => errors.push(error),
    ...deps,
  });
  const post = async (
    path: string,
    body: unknown,
    headers: Record<string, string> = {},
  ): Promise<Response> =>
    app.request(path, {
      method: "POST",
      headers: { "content-type": "application/json", ...headers },
      body: typeof body === "string" || body instanceof Uint8Array ? body : JSON.stringify(body),
    });
  return {
    app,
    client,
    errors,
    post,
    chat: (body) => post("/v1/chat/completions", { messages: USER, ...body }),
    complete: (body) => post("/v1/completions", { prompt: "hi", ...body }),
  };
}

/** With place for long prompts. */
export function roomy(deps: Partial<AppDeps> = {}): TestApp {
  const test = testApp(deps);
  test.client.info = { ...test.client.info, maxModelLen: 2000, numBlocks: 200 };
  return test;
}

/** The parsed body. */
// oxlint-disable-next-line typescript/no-explicit-any -- tests reach into many shapes
export async function json(response: Response | Promise<Response>): Promise<any> {
  return (await response).json();
}

export interface Refusal {
  readonly status: number;
  readonly message: string;
  readonly type: string;
  readonly param: string | null;
  readonly code: string;
}

/** The error of an answer, in OpenAI's shape and no other. */
export async function refusal(response: Response | Promise<Response>): Promise<Refusal> {
  const { status, headers } = await response;
  const body = await json(response);
  const keys = Object.keys(body.error).toSorted().join();
  if (Object.keys(body).join() !== "error" || keys !== "code,message,param,type")
    throw new Error(`not an error: ${JSON.stringify(body)}`);
  if (!headers.get("content-type")?.startsWith("application/json"))
    throw new Error("an error must be JSON");
  return { status, ...body.error };
}

/** The `data:` lines of a stream. */
export async function events(response: Response | Promise<Response>): Promise<string[]> {
  const text = await (await response).text();
  return text
    .split("\n\n")
    .filter((event) => event !== "")
    .map((event) => event.replace(/^data: /, ""));
}
