import { describe, expect, test } from "bun:test";
import { resetCache } from "../../../cli/bench/http/cache-reset.ts";
import {
  counterDifferences,
  parseCounters,
  readCounters,
} from "../../../cli/bench/http/counters.ts";
import { detectTarget, type ServerKind, type Target } from "../../../cli/bench/http/target.ts";
import { closedPort } from "../../support/scripted-server.ts";
import { thrownBy } from "../../support/thrown.ts";

type Routes = Readonly<Record<string, () => Response>>;

/** A server that knows these paths, and remembers what was asked. */
class Pages implements Disposable {
  readonly asked: string[] = [];
  readonly keys: (string | null)[] = [];
  readonly #server: Bun.Server<undefined>;

  constructor(routes: Routes) {
    this.#server = Bun.serve({
      port: 0,
      fetch: (request) => {
        const url = new URL(request.url);
        const asked = `${request.method} ${url.pathname}${url.search}`;
        this.asked.push(asked);
        this.keys.push(request.headers.get("authorization"));
        return routes[asked]?.() ?? new Response("no such page", { status: 404 });
      },
    });
  }

  get endpoint(): { baseUrl: string; headers: Record<string, string> } {
    const baseUrl = this.#server.url.href.replace(/\/$/, "");
    return { baseUrl, headers: { authorization: "Bearer k" } };
  }

  target(kind: ServerKind): Target {
    return { ...this.endpoint, kind, server: kind, model: "m" };
  }

  [Symbol.dispose](): void {
    void this.#server.stop(true);
  }
}

const models =
  (ownedBy: string, ...ids: string[]) =>
  (): Response =>
    Response.json({ data: ids.map((id) => ({ id, owned_by: ownedBy, max_model_len: 2048 })) });
const version = (body: object) => (): Response => Response.json(body);

describe("a target", () => {
  test("is known by who owns its models, with its version", async () => {
    const cases = [
      ["kvengine", "GET /version", { version: "0.1.0" }, "kvengine", "kvengine 0.1.0"],
      ["vllm", "GET /version", { version: "0.12.0" }, "vllm", "vllm 0.12.0"],
      ["sglang", "GET /get_server_info", { version: "0.6" }, "sglang", "sglang 0.6"],
      ["llamacpp", "GET /props", { build_info: "b9-1a" }, "llama-server", "llama-server b9-1a"],
      ["someone", "GET /version", { version: "1" }, "unknown", "unknown"],
    ] as const;
    for (const [owner, page, body, kind, server] of cases) {
      using pages = new Pages({ "GET /v1/models": models(owner, "m"), [page]: version(body) });
      const target = await detectTarget(pages.endpoint, "");
      expect([target.kind, target.server, target.model]).toEqual([kind, server, "m"]);
      expect(target.maxModelLen).toBe(2048);
      expect(new Set(pages.keys)).toEqual(new Set(["Bearer k"]));
    }
  });

  test("is known by its header where nobody owns the models", async () => {
    using pages = new Pages({
      "GET /v1/models": () =>
        Response.json({ data: [{ id: "m" }] }, { headers: { server: "llama.cpp" } }),
    });
    expect((await detectTarget(pages.endpoint, "")).server).toBe("llama-server");
  });

  test("serves the first model that it lists, or the one that is asked for", async () => {
    using pages = new Pages({ "GET /v1/models": models("vllm", "a", "b") });
    expect((await detectTarget(pages.endpoint, "")).model).toBe("a");
    expect((await detectTarget(pages.endpoint, "b")).model).toBe("b");
    const error = await thrownBy(() => detectTarget(pages.endpoint, "c"));
    expect([error.code, error.hint]).toEqual(["model_not_found", "it serves a, b"]);
  });

  test("that is not known takes any name, also without a list", async () => {
    using pages = new Pages({});
    expect((await detectTarget(pages.endpoint, "x")).model).toBe("x");
    const error = await thrownBy(() => detectTarget(pages.endpoint, ""));
    expect(error.message).toContain("lists no models (GET /v1/models answered 404: no such page)");
  });

  test("that does not answer, or wants a key, says so before anything is sent", async () => {
    const nobody = { baseUrl: `http://127.0.0.1:${closedPort()}`, headers: {} };
    const gone = await thrownBy(() => detectTarget(nobody, ""));
    expect([gone.code, gone.subject]).toEqual(["unavailable", "--base-url"]);
    expect(gone.message).toStartWith(`cannot connect to ${nobody.baseUrl}: `);
    using locked = new Pages({
      "GET /v1/models": () => Response.json({ error: { message: "no API key" } }, { status: 401 }),
    });
    const refused = await thrownBy(() => detectTarget(locked.endpoint, ""));
    expect([refused.code, refused.message]).toEqual([
      "unauthorized",
      `${locked.endpoint.baseUrl} answers 401: no API key`,
    ]);
  });
});

describe("emptying the cache", () => {
  const ok = (): Response => new Response("");

  test("is each server's own call", async () => {
    const cases = [
      ["kvengine", "POST /reset_prefix_cache", ok],
      ["vllm", "POST /reset_prefix_cache", version({ success: true })],
      ["sglang", "POST /flush_cache", ok],
    ] as const;
    for (const [kind, call, answer] of cases) {
      using pages = new Pages({ [call]: answer });
      expect(await resetCache(pages.target(kind))).toBeUndefined();
      expect(pages.asked).toEqual([call]);
    }
  });

  test("erases each slot of llama-server, and says what may be left", async () => {
    using pages = new Pages({
      "GET /slots": () => Response.json([{ id: 0 }, { id: 1 }]),
      "POST /slots/0?action=erase": ok,
      "POST /slots/1?action=erase": ok,
    });
    expect(await resetCache(pages.target("llama-server"))).toContain("--cache-ram");
    expect(pages.asked.slice(1)).toEqual([
      "POST /slots/0?action=erase",
      "POST /slots/1?action=erase",
    ]);
  });

  test("that is refused says what the server would need", async () => {
    const cases = [
      ["vllm", {}, "404: no such page", "VLLM_SERVER_DEV_MODE=1"],
      [
        "vllm",
        { "POST /reset_prefix_cache": version({ success: false }) },
        "blocks are still held",
        "VLLM_SERVER_DEV_MODE=1",
      ],
      [
        "sglang",
        { "POST /flush_cache": () => new Response("busy", { status: 400 }) },
        "400: busy",
        "nothing runs",
      ],
      [
        "llama-server",
        {
          "GET /slots": () => Response.json([{ id: 0 }]),
          "POST /slots/0?action=erase": () =>
            Response.json(
              { error: { message: "Start it with --slot-save-path" } },
              { status: 501 },
            ),
        },
        "501: Start it with --slot-save-path",
        "--slot-save-path",
      ],
      ["unknown", {}, "is not known", "uncontrolled"],
    ] as const;
    for (const [kind, routes, says, hint] of cases) {
      using pages = new Pages(routes);
      const error = await thrownBy(() => resetCache(pages.target(kind)));
      expect([error.code, error.message]).toEqual(["unsupported", expect.stringContaining(says)]);
      expect(error.hint).toContain(hint);
    }
  });
});

describe("counters", () => {
  const TEXT = `# HELP vllm:prompt_tokens_total Prompt tokens.
# TYPE vllm:prompt_tokens_total counter
vllm:prompt_tokens_total{engine="0",model_name="m, \\"x\\""} 120.0
vllm:prompt_tokens_total{engine="1",model_name="m"} 5
# TYPE vllm:prompt_tokens_by_source counter
vllm:prompt_tokens_by_source_total{engine="0",source="local_compute"} 3
vllm:prompt_tokens_by_source_total{engine="0",source="local_cache_hit"} 4
vllm:prompt_tokens_by_source_created{engine="0"} 1.7e9
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0"} 7
# TYPE vllm:e2e histogram
vllm:e2e_count{engine="0"} 9
# TYPE plain_total counter
plain_total 1e3
`;

  test("are those of the text format, summed over what a server's lines have in common", () => {
    expect(parseCounters(TEXT)).toEqual({
      "vllm:prompt_tokens_total": 125,
      'vllm:prompt_tokens_by_source_total{source="local_compute"}': 3,
      'vllm:prompt_tokens_by_source_total{source="local_cache_hit"}': 4,
      plain_total: 1000,
    });
  });

  test("differ by what was added; one that began in between counts whole, one that fell is left out", () => {
    const before = { a: 5, b: 2, c: 9 };
    expect(counterDifferences(before, { a: 7, b: 2, c: 1, d: 3 })).toEqual({ a: 2, b: 0, d: 3 });
  });

  test("are none where the server has none", async () => {
    using pages = new Pages({});
    expect(await readCounters(pages.endpoint)).toEqual({});
    using full = new Pages({ "GET /metrics": () => new Response(TEXT) });
    expect((await readCounters(full.endpoint))["plain_total"]).toBe(1000);
  });
});
