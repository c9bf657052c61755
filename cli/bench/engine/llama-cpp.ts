/**
 * llama.cpp as the peer: `llama-bench` for single tests, `llama-batched-bench` for sequences side by side, each with several
 * settings. Which of them is best is decided test by test, on what all rounds have measured.
 */

import { constants } from "node:fs";
import { access } from "node:fs/promises";
import { join } from "node:path";
import { KvEngineError } from "../../../engine/errors.ts";
import type { Test } from "./grid.ts";
import {
  batchedBenchCommand,
  benchCommand,
  type LlamaCpp,
  parseBatchedBench,
  parseBench,
  type PeerRate,
  settingsOf,
} from "./llama-cpp-programs.ts";

const NAME = "llama.cpp";

/**
 * Reads `llama.cpp=folder` and looks whether the programs for these tests are there; undefined = no peer is wanted. Throws
 * `bad_config`.
 */
export async function findLlamaCpp(
  peers: readonly string[],
  tests: readonly Test[],
): Promise<string | undefined> {
  const [peer, more] = peers;
  if (peer === undefined) return undefined;
  const [name, ...rest] = peer.split("=");
  const folder = rest.join("=");
  if (more !== undefined) {
    throw new KvEngineError("bad_config", `--peer: ${peers.length} are given, allowed is one`, {
      subject: "--peer",
    });
  }
  if (name !== NAME || folder === "") {
    throw new KvEngineError("bad_config", `--peer: \`${peer}\` is not allowed`, {
      subject: "--peer",
      hint: `allowed is ${NAME}=folder with llama-bench and llama-batched-bench in it`,
    });
  }
  for (const program of programsFor(tests)) {
    try {
      await access(join(folder, program), constants.X_OK);
    } catch (cause) {
      throw new KvEngineError("bad_config", `--peer: ${program} cannot be run in ${folder}`, {
        subject: "--peer",
        hint: "build llama.cpp's tools; its programs are in build/bin",
        cause,
      });
    }
  }
  return folder;
}

function programsFor(tests: readonly Test[]): string[] {
  const programs: string[] = [];
  if (tests.some(({ kind }) => kind === "single")) programs.push("llama-bench");
  if (tests.some(({ kind }) => kind === "parallel")) programs.push("llama-batched-bench");
  return programs;
}

/**
 * Runs every test once under each of its settings, after the warm-up that the programs do. Throws `unsupported` with what a
 * program said that failed.
 */
export async function runLlamaCpp(peer: LlamaCpp, tests: readonly Test[]): Promise<PeerRate[]> {
  const rates: PeerRate[] = [];
  for (const settings of new Set(tests.flatMap(settingsOf))) {
    const tried = tests.filter((test) => settingsOf(test).includes(settings));
    const singles = tried.filter((test) => test.kind === "single");
    const parallels = tried.filter((test) => test.kind === "parallel");
    if (singles.length > 0) {
      const said = await run(peer, benchCommand(peer, singles, settings));
      rates.push(...parseBench(said, singles, settings));
    }
    if (parallels.length > 0) {
      const said = await run(peer, batchedBenchCommand(peer, parallels, settings));
      rates.push(...parseBatchedBench(said, parallels, settings));
    }
  }
  return rates;
}

async function run({ folder }: LlamaCpp, [program = "", ...args]: string[]): Promise<string> {
  const child = Bun.spawn([join(folder, program), ...args], {
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  const [stdout, stderr, code] = await Promise.all([
    child.stdout.text(),
    child.stderr.text(),
    child.exited,
  ]);
  if (code !== 0) {
    const last = stderr.trimEnd().split("\n").slice(-3).join(" | ");
    throw new KvEngineError("unsupported", `${program} ended with ${code}: ${last}`, {
      subject: program,
      hint: `it was called with ${args.join(" ")}`,
    });
  }
  return stdout;
}
