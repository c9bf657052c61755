/**
 * What the disk store costs beside a plain file: bandwidth of writes and reads, cold and warm, processor time a page, with and without
 * the system's page cache. The sides take turns.
 *
 *   bun tests/measure/disk.ts FOLDER [--pages 256] [--page-bytes 380224] [--rounds 5] [--threads 2]
 */
import { mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { median } from "../../cli/bench/engine/rates.ts";
import { blockKey, packBlockKeys } from "../../engine/cache/block-key.ts";
import { type FilePlace, LABEL_BYTES } from "../../engine/cache/page-transfers.ts";
import { Runner } from "../../engine/runner/native.ts";
import { NativeDisk } from "../../engine/runner/native-disk.ts";
import { NativeTransfers } from "../../engine/runner/native-transfers.ts";
import { dropCaches, type Figures, Flights, run, timed } from "./disk/flights.ts";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    pages: { type: "string", default: "256" },
    "page-bytes": { type: "string", default: "380224" },
    rounds: { type: "string", default: "5" },
    threads: { type: "string", default: "2" },
  },
});
const [folder] = positionals;
if (folder === undefined) throw new Error("usage: disk.ts FOLDER");
const numPages = Number(values.pages);
const rounds = Number(values.rounds);
const DEADLINE_MS = 60_000;
/** A slot of the witness, and what a page of it has beside them. */
const [SLOT_BYTES, REST_BYTES] = [8, 4];

const flights = new Flights();
const runner = await Runner.create(
  {
    ...{ backend: "witness", isa: "auto", threads: 1, vocabSize: 1000 },
    ...{ values: [], ops: [], files: [], tensors: [] },
    groups: [{ layers: 1, numKvHeads: 1, headDim: 1, kind: "full", window: 0 }],
    blockSize: Math.floor((Number(values["page-bytes"]) - REST_BYTES) / SLOT_BYTES),
    numBlocks: 2,
    ...{ maxTokens: 16, maxRows: 1, maxSamples: 1, maxModelLen: 16 },
  },
  () => undefined,
);
const transfers = NativeTransfers.open(
  runner,
  {
    ...{ hostPages: numPages, threads: 1, fileThreads: Number(values.threads), checksums: true },
    ...{ storeShare: 1, linkBytesPerSecond: 0, manual: false, guardSteps: false },
  },
  flights.onResults,
);
const { pageBytes } = transfers;
const all = Int32Array.from({ length: numPages }, (_, i) => i);

/** All pages. */
function inFlights(move: (id: number, pages: Int32Array) => void): Promise<void> {
  return flights.inParts(numPages, (id, first, end) => move(id, all.slice(first, end)));
}

interface Side {
  readonly name: string;
  open(): Promise<void>;
  write(id: number, pages: Int32Array): void;
  read(id: number, pages: Int32Array): void;
  /** Everything is on the disk when the promise resolves. */
  close(): Promise<void>;
}

function fileSide(path: string): Side {
  const placeOf = (pages: Int32Array): FilePlace => ({
    path: join(path, "plain"),
    fingerprint: "",
    offsets: Float64Array.from(pages, (page) => page * (pageBytes + LABEL_BYTES)),
  });
  const keysOf = (pages: Int32Array): Int32Array =>
    packBlockKeys(
      Array.from(pages, (page) => blockKey(Int32Array.of(page, 0, 0, 0, 0, 0, 0, 0), 0, 0)),
    );
  return {
    name: "file",
    open: () => Promise.resolve(),
    write: (id, pages) => transfers.writePages(id, placeOf(pages), keysOf(pages), pages),
    read: (id, pages) => transfers.readPages(id, placeOf(pages), keysOf(pages), pages),
    close: () => {
      run("sync", "-d", join(path, "plain"));
      return Promise.resolve();
    },
  };
}

function diskSide(name: string, path: string, directIo: boolean): Side {
  const keys = (pages: Int32Array): string[] =>
    Array.from(pages, (page) => blockKey(new Int32Array(8).fill(page + 1), 0, 0));
  let disk: NativeDisk;
  return {
    name,
    open: async () => {
      const sizeBytes = 2 * numPages * pageBytes + (64 << 20);
      disk = await NativeDisk.open(transfers, {
        ...{ path, sizeBytes, pageBytes, fingerprint: "measured", directIo },
      });
    },
    write: (id, pages) => disk.store(id, keys(pages), pages),
    read: (id, pages) => disk.load(id, keys(pages), pages),
    close: async () => void (await disk.close(DEADLINE_MS)),
  };
}

const found = new Map<string, Figures[]>();

function note(side: Side, what: string, figures: Figures): void {
  const name = `${side.name.padEnd(9)}${what}`;
  found.set(name, [...(found.get(name) ?? []), figures]);
}

async function measure(side: Side, path: string): Promise<void> {
  mkdirSync(path, { recursive: true });
  try {
    await side.open();
    const written = await timed(() => inFlights((id, pages) => side.write(id, pages)));
    note(side, "write", written);
    const closed = await timed(() => side.close());
    const sum = (of: "seconds" | "cpuMicros"): number => written[of] + closed[of];
    note(side, "write, synced", { seconds: sum("seconds"), cpuMicros: sum("cpuMicros") });
    dropCaches(path);
    const read = (): Promise<void> => inFlights((id, pages) => side.read(id, pages));
    note(side, "open", await timed(() => side.open()));
    note(side, "read, cold", await timed(read));
    note(side, "read, again", await timed(read));
    await side.close();
  } finally {
    rmSync(path, { recursive: true, force: true });
  }
}

await flights.untilReady(transfers);
for (const page of all)
  await flights.fly((id) => transfers.store(id, Int32Array.of(1), Int32Array.of(page), -1));

const base = join(folder, `kvengine-measure-disk-${process.pid}`);
const sides: readonly Side[] = [
  fileSide(join(base, "file")),
  diskSide("store", join(base, "store"), false),
  diskSide("direct", join(base, "direct"), true),
];
const paths = ["file", "store", "direct"].map((name) => join(base, name));
for (let round = 0; round < rounds; round++) {
  for (const [i, side] of sides.entries()) await measure(side, paths[i] as string);
}
rmSync(base, { recursive: true, force: true });

process.stdout.write(`${numPages} pages of ${pageBytes} bytes, ${values.threads} file threads\n`);
for (const [name, figures] of found) {
  const middle = (of: (one: Figures) => number): number => median(figures.map(of));
  const rate = (numPages * pageBytes) / 1e6 / middle((one) => one.seconds);
  const micros = middle((one) => one.cpuMicros) / numPages;
  const text = `${rate.toFixed(0).padStart(7)} MB/s ${micros.toFixed(0).padStart(6)} µs CPU a page`;
  process.stdout.write(`${name.padEnd(24)}${text}\n`);
}
await transfers.stop(DEADLINE_MS);
await runner.stop();
