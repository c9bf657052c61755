/**
 * How far apart two processors are: nanoseconds that a line of the caches takes from one thread to another and back.
 *
 *   bun tests/measure/round-trip.ts [SECONDS=10]
 *
 * One figure each quarter of a second, the best of twenty batches of 2,000 trips; both threads use a processor whole. On a virtual machine
 * the figure tells where its processors are at that moment: about 25 when they are two threads of one core, which compute half as much
 * together, about 60 when they have a cache in common, 200 and more when they have not. All rates change with it, those of steps that share
 * small results among threads most, so rates are compared in turns only.
 */

import { once } from "node:events";
import { Worker } from "node:worker_threads";

const PAUSE_MS = 250;
const BATCHES = 20;
const TRIPS = 2000;

const answering = `const { parentPort, workerData } = require("node:worker_threads");
const words = new Int32Array(workerData);
parentPort.postMessage("ready");
while (true) {
  const word = Atomics.load(words, 0);
  if (word === 1) Atomics.store(words, 0, 0);
  if (word === 2) break;
}`;

function batch(words: Int32Array): number {
  const start = performance.now();
  for (let trip = 0; trip < TRIPS; trip++) {
    Atomics.store(words, 0, 1);
    while (Atomics.load(words, 0) === 1);
  }
  return ((performance.now() - start) / TRIPS) * 1e6;
}

async function measure(seconds: number): Promise<void> {
  const memory = new SharedArrayBuffer(256);
  const words = new Int32Array(memory);
  const worker = new Worker(answering, { eval: true, workerData: memory });
  await once(worker, "message");
  for (let at = 0; at < seconds * 1000; at += PAUSE_MS) {
    const best = Math.min(...Array.from({ length: BATCHES }, () => batch(words)));
    process.stdout.write(`${best.toFixed(0)} `);
    await Bun.sleep(PAUSE_MS);
  }
  process.stdout.write("\n");
  const ended = once(worker, "exit");
  Atomics.store(words, 0, 2);
  await ended;
}

if (import.meta.main) {
  const seconds = Number(process.argv[2] ?? 10);
  if (!(seconds > 0)) {
    throw new Error(`SECONDS is ${process.argv[2]}, allowed is a number above 0`);
  }
  await measure(seconds);
}
