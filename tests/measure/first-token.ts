/** How long a server takes from its start to the address that it says and to the first token of an answer. */

const PROMPT = "Once upon a time";

export interface Started {
  /** Milliseconds since the start. */
  readonly readyMs: number;
  readonly firstTokenMs: number;
  readonly url: string;
  readonly pid: number;
  stop(): Promise<void>;
}

/** Starts a server on a port that the system chooses, and asks it as soon as it can be asked. */
export async function startAndAsk(command: readonly string[]): Promise<Started> {
  const start = performance.now();
  const server = Bun.spawn([...command, "--port", "0"], { stdout: "pipe", stderr: "pipe" });
  // Whichever stream says that the server is ready.
  const url = await Promise.any([firstUrl(server.stdout), firstUrl(server.stderr)]);
  const readyMs = performance.now() - start;
  const answer = await fetch(`${url}/v1/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ prompt: PROMPT, max_tokens: 2, stream: true }),
  });
  const reader = answer.body?.getReader();
  await reader?.read();
  const firstTokenMs = performance.now() - start;
  await reader?.cancel();
  return {
    ...{ readyMs, firstTokenMs, url, pid: server.pid },
    async stop() {
      server.kill();
      await server.exited;
    },
  };
}

async function firstUrl(stream: ReadableStream<Uint8Array>): Promise<string> {
  let text = "";
  for await (const chunk of stream) {
    text += new TextDecoder().decode(chunk);
    const url = /http:\/\/127\.0\.0\.1:\d+/.exec(text)?.[0];
    if (url !== undefined) return url;
  }
  throw new Error(`the server ended without an address:\n${text}`);
}
