/** `kvengine serve` as people run it: TLS, Unix sockets, several names and keys, logs, and what is said while it loads. */

import { describe, expect, test } from "bun:test";
import { cpSync, existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { connect } from "node:tls";
import { OtlpCollector } from "../support/otlp-collector.ts";
import { runCli, startServer } from "../support/server.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { writeTinyModel } from "../support/tiny-model.ts";

const folder = temporaryFolder();
const model = join(folder, "tiny.gguf");
await writeTinyModel(model);
const ASK = {
  method: "POST",
  headers: { "content-type": "application/json" },
  body: JSON.stringify({ prompt: "a", max_tokens: 2 }),
};

/** A certificate of its own, in files that a server may read; its name tells it from others. */
function writeCertificate(name: string): { readonly cert: string; readonly key: string } {
  const [cert, key] = [join(folder, `${name}.crt`), join(folder, `${name}.key`)];
  const made = Bun.spawnSync([
    ...[
      "openssl",
      "req",
      "-x509",
      "-newkey",
      "ec",
      "-pkeyopt",
      "ec_paramgen_curve:P-256",
      "-nodes",
    ],
    ...["-days", "2", "-subj", `/CN=${name}`, "-keyout", key, "-out", cert],
  ]);
  if (!made.success) throw new Error(made.stderr.toString());
  return { cert, key };
}

/** The name in the certificate that a server shows. */
function certificateName(url: string): Promise<string> {
  const { hostname, port } = new URL(url);
  return new Promise((resolve, reject) => {
    const socket = connect(
      { host: hostname, port: Number(port), rejectUnauthorized: false },
      () => {
        resolve(String(socket.getPeerCertificate().subject.CN));
        socket.end();
      },
    );
    socket.on("error", reject);
  });
}

describe.skipIf(Bun.which("openssl") === null)("TLS, with openssl to make certificates", () => {
  test("serves, and takes a new certificate while it runs", async () => {
    const [first, second] = [writeCertificate("first"), writeCertificate("second")];
    const files = { cert: join(folder, "tls.crt"), key: join(folder, "tls.key") };
    const install = ({ cert, key }: typeof first): void => {
      cpSync(cert, files.cert);
      cpSync(key, files.key);
    };
    install(first);
    const args = ["--ssl-certfile", files.cert, "--ssl-keyfile", files.key, "--enable-ssl-refresh"];
    await using server = await startServer(args, { model });
    expect(server.url).toStartWith("https://");
    const tls = { rejectUnauthorized: false };
    expect((await fetch(`${server.url}/v1/completions`, { ...ASK, tls })).status).toBe(200);
    expect(await certificateName(server.url)).toBe("first");
    install(second);
    await server.saysOnStderr("has changed");
    while ((await certificateName(server.url)) !== "second");
    writeFileSync(files.cert, "no certificate");
    await server.saysOnStderr("stays as it was");
    expect(await certificateName(server.url)).toBe("second");
  }, 60_000);

  test("a key of another certificate is an error before the model is loaded", async () => {
    const [one, two] = [writeCertificate("one"), writeCertificate("two")];
    const { code, stderr } = await runCli([
      "serve",
      model,
      "--ssl-certfile",
      one.cert,
      "--ssl-keyfile",
      two.key,
    ]);
    expect(code).toBe(2);
    expect(stderr).toContain("are no certificate and its key");
    const half = await runCli(["serve", model, "--ssl-certfile", one.cert]);
    expect(half.stderr).toContain("TLS needs --ssl-keyfile too");
  }, 60_000);
});

test("a Unix socket, which is gone afterwards", async () => {
  const unix = join(folder, "api.sock");
  const server = await startServer(["--uds", unix], { model });
  expect(server.url).toBe(`unix:${unix}`);
  expect((await fetch("http://localhost/v1/completions", { ...ASK, unix })).status).toBe(200);
  server.kill("SIGTERM");
  expect(await server.exited).toBe(0);
  expect(existsSync(unix)).toBe(false);
}, 60_000);

test("several names and keys, origins, a root path, and flags of vLLM that hold anyway", async () => {
  const keys = join(folder, "keys.toml");
  writeFileSync(keys, '[[key]]\nname = "slow"\nkey = "from-file"\nrate = 1\n');
  const args = [
    "--served-model-name",
    "one",
    "--served-model-name",
    "two",
    "--api-key",
    "k1",
    "--api-key",
    "k2",
  ];
  const more = [
    "--api-key-file",
    keys,
    "--allowed-origins",
    '["http://a.example"]',
    "--root-path",
    "/llm",
  ];
  const vllm = [
    "--enable-auto-tool-choice",
    "--enable-prompt-tokens-details",
    "--enable-request-id-headers",
  ];
  await using server = await startServer([...args, ...more, ...vllm], { model });
  expect(server.url).toEndWith("/llm");
  const as = (key: string): Promise<Response> =>
    fetch(`${server.url}/v1/models`, {
      headers: { authorization: `Bearer ${key}`, origin: "http://a.example" },
    });
  for (const key of ["k1", "k2", "from-file"]) {
    const response = await as(key);
    expect(response.headers.get("access-control-allow-origin")).toBe("http://a.example");
    const { data } = (await response.json()) as { data: { id: string }[] };
    expect(data.map(({ id }) => id)).toEqual(["one", "two"]);
  }
  expect((await as("k3")).status).toBe(401);
  const headers = { ...ASK.headers, authorization: "Bearer from-file" };
  const ask = (): Promise<Response> => fetch(`${server.url}/v1/completions`, { ...ASK, headers });
  expect((await ask()).status).toBe(200);
  const refused = await ask();
  expect(refused.status).toBe(429);
  expect(Number(refused.headers.get("retry-after"))).toBeWithin(1, 61);
}, 60_000);

test("logs as JSON: an entry for each request, paths left out, no word of prompts", async () => {
  const args = ["--log-format", "json", "--disable-access-log-for-endpoints", "/health,/metrics"];
  await using server = await startServer(args, { model });
  await fetch(`${server.url}/health`);
  const ids = Array.from({ length: 20 }, (_, i) => `r${i}`);
  for (const id of ids)
    await fetch(`${server.url}/v1/completions`, {
      ...ASK,
      headers: { ...ASK.headers, "x-request-id": id },
      body: JSON.stringify({ prompt: "secret", max_tokens: 2 }),
    });
  await server.saysOnStderr('"r19"');
  const lines = server
    .stderr()
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
  const requests = lines.filter(({ message }) => message === "request");
  expect(requests.map(({ request_id }) => request_id)).toEqual(ids);
  for (const entry of requests)
    expect(entry).toMatchObject({
      level: "info",
      path: "/v1/completions",
      status: 200,
      completion_tokens: 2,
    });
  expect(server.stderr()).not.toContain("secret");
}, 60_000);

test("while the model loads it answers 503", async () => {
  const { Gate } = await import("../../engine/server/gate.ts");
  const { serveHttp } = await import("../../engine/server/listen.ts");
  const gate = new Gate();
  const server = serveHttp(gate, { host: "127.0.0.1", port: 0 });
  const before = await fetch(`${server.url}/health`);
  expect(before.status).toBe(503);
  expect(before.headers.get("retry-after")).toBe("1");
  gate.open({ fetch: () => new Response("ready") });
  expect(await (await fetch(`${server.url}/health`)).text()).toBe("ready");
  await server.stop(true);
});

test("traces reach their collector before a server that was told to stop ends", async () => {
  await using collector = new OtlpCollector();
  const args = ["--backend", "null", "--otlp-traces-endpoint", collector.url];
  await using server = await startServer(args, { model });
  expect((await fetch(`${server.url}/v1/completions`, ASK)).status).toBe(200);
  server.kill("SIGTERM");
  expect(await server.exited).toBe(0);
  expect(collector.spans).toMatchObject([
    { name: "llm_request", attributes: { "gen_ai.usage.completion_tokens": 2 } },
  ]);
});
