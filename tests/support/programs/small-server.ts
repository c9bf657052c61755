/**
 * A program for tests of what starts servers: `bun small-server.ts MODE [PORT]`. `say`: any free port, its address on standard
 * output; `port`: the port that it is told, `/health` is 503 until it was asked for twice; `models`: the same without `/health`;
 * `fail`: says why on standard error and ends; `silent`: neither listens nor ends.
 */

const mode: string = process.argv[2] ?? "say";
const port: number = Number(process.argv[3] ?? 0);

if (mode === "fail") {
  console.error("first line\nthe model is too large");
  process.exit(3);
}
if (mode === "silent") setInterval(() => {}, 60_000);
else serve();

function serve(): void {
  let asked = 0;
  const server = Bun.serve({
    hostname: "127.0.0.1",
    port,
    fetch(request) {
      const { pathname } = new URL(request.url);
      if (pathname === "/v1/models")
        return Response.json({ data: [{ id: "small", owned_by: "kvengine" }] });
      if (pathname !== "/health" || mode === "models") return new Response("", { status: 404 });
      return new Response("", { status: mode === "port" && ++asked < 2 ? 503 : 200 });
    },
  });
  console.log(`small serves on ${server.url.href} at once`);
}
