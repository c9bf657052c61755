/** llama.cpp's programs as they are needed for divergences. */

import { join } from "node:path";
import { CHUNK } from "./base-file.ts";

/** Mean KL divergence of llama.cpp on a base file. */
export async function peerDivergence(
  programs: string,
  model: string,
  base: string,
): Promise<number> {
  const said = await perplexity(programs, model, ["--kl-divergence", "--kl-divergence-base", base]);
  const found = /Mean\s+KLD:\s*([-\d.e]+)/.exec(said);
  if (found?.[1] === undefined) throw new Error(`llama-perplexity printed no "Mean KLD":\n${said}`);
  return Number(found[1]);
}

/** Writes the base file of a text: that of the model with its weights and its KV in f32, which no kernel of ours has touched. */
export async function writePeerBase(
  programs: string,
  model: string,
  text: string,
  folder: string,
  chunks: number,
): Promise<string> {
  const [float, base] = [join(folder, "f32.gguf"), join(folder, "base")];
  if (!(await Bun.file(float).exists()))
    await run([join(programs, "llama-quantize"), "--allow-requantize", model, float, "F32"]);
  const exact = ["-ctk", "f32", "-ctv", "f32", "-fa", "off", "--chunks", String(chunks)];
  await perplexity(programs, float, ["-f", text, "--kl-divergence-base", base, ...exact]);
  return base;
}

function perplexity(programs: string, model: string, flags: readonly string[]): Promise<string> {
  const length = String(CHUNK);
  const program = join(programs, "llama-perplexity");
  return run([program, "-m", model, "-t", "2", "-c", length, "-b", length, ...flags]);
}

async function run(command: readonly string[]): Promise<string> {
  const child = Bun.spawn([...command], { stdout: "pipe", stderr: "pipe" });
  const [out, err, status] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  if (status !== 0) throw new Error(`${command.join(" ")} ended with ${status}:\n${out}${err}`);
  return out + err;
}
