/** What kind of server answers at an address, and which model it serves. */

import { KvEngineError } from "../../../engine/errors.ts";
import { control, type ControlAnswer, describeAnswer, type Endpoint } from "./control.ts";
import { asArray, asCount, asObject, asText } from "./json.ts";

export type ServerKind = "kvengine" | "vllm" | "sglang" | "llama-server" | "unknown";

export interface Target extends Endpoint {
  readonly kind: ServerKind;
  /** `kvengine 0.1.0`, `llama-server b1234-abcdef`; just the kind where no version is told. */
  readonly server: string;
  readonly model: string;
  /** Most tokens of a request, where the server tells. */
  readonly maxModelLen?: number;
}

/** `owned_by` of `/v1/models`. */
const KINDS: Readonly<Record<string, ServerKind>> = {
  kvengine: "kvengine",
  vllm: "vllm",
  sglang: "sglang",
  llamacpp: "llama-server",
};

/**
 * Asks the server. Throws `unavailable` when nothing answers, `unauthorized` when it wants a key, `model_not_found` when it does
 * not serve `model`, `bad_config` when it lists no models and none is given.
 * @param model empty = the first one that it lists.
 */
export async function detectTarget(endpoint: Endpoint, model: string): Promise<Target> {
  const listed = await listModels(endpoint);
  const kind = listed.kind ?? "unknown";
  const chosen = listed.models.find(({ id }) => model === "" || id === model);
  // Servers with one model take any name: llama-server ignores it.
  const strict = kind !== "llama-server" && kind !== "unknown";
  if (model !== "" && chosen === undefined && strict) {
    throw new KvEngineError("model_not_found", `${endpoint.baseUrl} does not serve ${model}`, {
      subject: "--served-model-name",
      hint: `it serves ${listed.models.map(({ id }) => id).join(", ")}`,
    });
  }
  const name = chosen?.id ?? model;
  if (name === "") {
    throw new KvEngineError(
      "bad_config",
      `${endpoint.baseUrl} lists no models (GET /v1/models answered ${listed.answer})`,
      { subject: "--served-model-name", hint: "name the model with --served-model-name" },
    );
  }
  const version = await readVersion(endpoint, kind);
  return {
    ...endpoint,
    kind,
    server: version === undefined ? kind : `${kind} ${version}`,
    model: name,
    ...(chosen?.maxModelLen === undefined ? {} : { maxModelLen: chosen.maxModelLen }),
  };
}

interface ListedModel {
  readonly id: string;
  readonly maxModelLen: number | undefined;
}

interface Listed {
  readonly kind: ServerKind | undefined;
  readonly models: readonly ListedModel[];
  readonly answer: string;
}

async function listModels(endpoint: Endpoint): Promise<Listed> {
  const answer = await control(endpoint, "GET", "/v1/models").catch((cause: unknown) => {
    throw new KvEngineError("unavailable", cause instanceof Error ? cause.message : String(cause), {
      subject: "--base-url",
      hint: "is the server running, and is this its address?",
      cause,
    });
  });
  if (answer.status === 401 || answer.status === 403) {
    throw new KvEngineError(
      "unauthorized",
      `${endpoint.baseUrl} answers ${describeAnswer(answer)}`,
      { subject: "--api-key", hint: "give its key with --api-key or OPENAI_API_KEY" },
    );
  }
  const cards = (asArray(asObject(answer.json)?.["data"]) ?? []).map(asObject);
  const owner = asText(cards[0]?.["owned_by"]);
  return {
    kind: (owner === undefined ? undefined : KINDS[owner]) ?? kindByHeader(answer),
    models: cards.flatMap((card) => {
      const id = asText(card?.["id"]);
      return id === undefined ? [] : [{ id, maxModelLen: asCount(card?.["max_model_len"]) }];
    }),
    answer: describeAnswer(answer),
  };
}

function kindByHeader({ headers }: ControlAnswer): ServerKind | undefined {
  return headers.get("server") === "llama.cpp" ? "llama-server" : undefined;
}

/** Where each kind tells its version. */
const VERSION_PLACES: Readonly<Record<ServerKind, readonly [path: string, field: string] | null>> =
  {
    kvengine: ["/version", "version"],
    vllm: ["/version", "version"],
    sglang: ["/get_server_info", "version"],
    "llama-server": ["/props", "build_info"],
    unknown: null,
  };

/** Undefined where the server does not tell: a version is a nicety and no reason to stop. */
async function readVersion(endpoint: Endpoint, kind: ServerKind): Promise<string | undefined> {
  const place = VERSION_PLACES[kind];
  if (place === null) return undefined;
  const answer = await control(endpoint, "GET", place[0]).catch(() => undefined);
  return asText(asObject(answer?.json)?.[place[1]]);
}
