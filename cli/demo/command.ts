/** `kvengine demo`: shows on a real server what becomes of a prompt's KV, and leaves nothing behind. */

import { rmSync } from "node:fs";
import { mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { CommandDef } from "citty";
import { KvEngineError } from "../../engine/errors.ts";
import { DEFAULT_MODEL } from "../../engine/hub/resolve.ts";
import type { Tokenizer } from "../../engine/tokenizer/tokenizer.ts";
import { listenForInterrupt } from "../bench/interrupt.ts";
import { startChild } from "../bench/servers/child-server.ts";
import { kvengineServer } from "../bench/servers/side.ts";
import { defineOurCommand } from "../command.ts";
import { EXIT } from "../output.ts";
import { openModel } from "../session.ts";
import { type Act, ANSWER_TOKENS, DEVICE_SHARE, playDemo, receiptLine } from "./acts.ts";

/** Tokens of a document, where the model's context has room for it. */
const DOCUMENT_TOKENS = 2048;
const BLOCK_SIZE = 16;
const NUM_OTHERS = 2;
const READY_MS = 120_000;

const command: CommandDef = defineOurCommand("demo", async ({ values, positionals, log }) => {
  const { model, tokenizer } = await openModel(positionals[0] ?? DEFAULT_MODEL, values, log);
  const room = model.config.contextLength - ANSWER_TOKENS;
  const length = Math.floor(Math.min(DOCUMENT_TOKENS, room) / BLOCK_SIZE) * BLOCK_SIZE;
  const folder = await mkdtemp(join(tmpdir(), "kvengine-demo-"));
  const clear = (): void => rmSync(folder, { recursive: true, force: true });
  // However it ends, a second Ctrl-C too.
  process.once("exit", clear);
  using interrupt = listenForInterrupt(() => log.info("ending"));
  try {
    const flags = serverFlags(length, folder);
    process.stdout.write(`${introduction(length, flags)}\n`);
    const begun = performance.now();
    const acts = await playDemo({
      start: () =>
        startChild(kvengineServer(model.path, flags).command, READY_MS, interrupt.signal),
      document: documentOf(tokenizer, 0, length),
      others: Array.from({ length: NUM_OTHERS }, (_, i) => documentOf(tokenizer, i + 1, length)),
      signal: interrupt.signal,
      begins: ({ name, plot }) => process.stdout.write(`\n${name.padEnd(9)}${plot}\n`),
      ended: ({ answers }) => {
        for (const answer of answers)
          process.stdout.write(`${" ".repeat(9)}${receiptLine(answer)}\n`);
      },
    });
    process.stdout.write(`\n${conclusion(acts, performance.now() - begun)}\n`);
    return isSame(acts) ? EXIT.ok : EXIT.failed;
  } catch (thrown) {
    if (interrupt.signal.aborted) return EXIT.interrupted;
    throw thrown;
  } finally {
    process.off("exit", clear);
    clear();
  }
});

/** A device for one document and a host for all of them, so that each act happens on any machine. */
function serverFlags(length: number, folder: string): readonly string[] {
  const blocks = Math.ceil(((length + ANSWER_TOKENS) / BLOCK_SIZE) * DEVICE_SHARE) + 1;
  return [
    `--num-gpu-blocks-override=${blocks}`,
    `--max-model-len=${length + ANSWER_TOKENS}`,
    `--block-size=${BLOCK_SIZE}`,
    "--kv-connector=cpu-offload",
    "--kv-offload-size=512MiB",
    `--kv-disk-path=${folder}`,
    "--kv-disk-size=1GiB",
    "--log-level=error",
  ];
}

function introduction(length: number, flags: readonly string[]): string {
  return [
    `A server that has room on the device for one document of ${length} tokens, 512 MiB of the host's memory and a folder on the disk:`,
    `kvengine serve ${flags.join(" ")}`,
  ].join("\n");
}

/** The beginning of a text that no other document shares. */
function documentOf(tokenizer: Tokenizer, number: number, length: number): readonly number[] {
  const sentences = Array.from(
    { length },
    (_, i) => `Part ${number + 1}.${i + 1} tells what happened on day ${(number + 2) * (i + 3)}.`,
  );
  const tokens = tokenizer.encode(sentences.join(" "), { parseSpecial: false });
  if (tokens.length >= length) return Array.from(tokens.subarray(0, length));
  throw new KvEngineError("internal", `a document has ${tokens.length} tokens of ${length}`);
}

/** Whether the document had one answer in all acts. */
function isSame(acts: readonly Act[]): boolean {
  const texts = acts.filter(({ name }) => name !== "evict").map(({ answers }) => answers[0]?.text);
  return new Set(texts).size === 1;
}

function conclusion(acts: readonly Act[], ms: number): string {
  const firstOf = (wanted: Act["name"]): number =>
    acts.find(({ name }) => name === wanted)?.answers[0]?.firstTokenMs ?? Number.NaN;
  const ratio = (wanted: Act["name"]): string => (firstOf("cold") / firstOf(wanted)).toFixed(1);
  const answers = isSame(acts)
    ? "The document's four answers are the same."
    : "The document's answers differ, which is a bug.";
  return [
    `To the first token: ${ratio("hit")} times sooner from the device, ${ratio("restore")} from the host, ${ratio("restart")} from the disk after a restart.`,
    `${answers} It took ${(ms / 1000).toFixed(1)} s; the folder is removed.`,
  ].join("\n");
}

export default command;
