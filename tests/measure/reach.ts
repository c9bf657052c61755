/**
 * The reach table: kvengine's rates as multiples of llama.cpp's on the same file and machine, against the bar of each row. Both sides run
 * in turns, round by round; the peer has the best of its settings.
 *
 *   bun tests/measure/reach.ts MODEL.gguf... --peer DIR [--avx2-peer DIR] [--rounds 5] [--threads 2] [--only prompts,one] [--json FILE]
 *
 * Markdown goes to standard output, a table for each model as soon as it is measured. `DIR` and the AVX2 build are made by
 * `build-llama-cpp.sh`, the models by `write-models.ts`. With `--avx2-peer` kvengine runs with `--isa avx2` against that build too.
 * A row is met where its ratio reaches the bar, surely where the whole 95 % interval does.
 */
import { loadavg } from "node:os";
import { basename } from "node:path";
import { parseArgs } from "node:util";
import { sectionMarkdown } from "../../cli/bench/report/section.ts";
import { loadModel } from "../../engine/models/registry.ts";
import { barOf, type Held, heldOf } from "./reach/bars.ts";
import { type Measured, run } from "./reach/measure.ts";
import { AVX2_MEASUREMENTS, MEASUREMENTS } from "./reach/rows.ts";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    peer: { type: "string" },
    "avx2-peer": { type: "string" },
    rounds: { type: "string", default: "5" },
    threads: { type: "string", default: "2" },
    only: { type: "string" },
    json: { type: "string" },
  },
});
const { peer, "avx2-peer": avx2Peer } = values;
if (positionals.length === 0 || (peer === undefined && avx2Peer === undefined))
  throw new Error("usage: reach.ts MODEL.gguf... --peer DIR [--avx2-peer DIR]");
const names = values.only?.split(",") ?? MEASUREMENTS.map(({ name }) => name);
const unknown = names.find((name) => MEASUREMENTS.every((one) => one.name !== name));
if (unknown !== undefined) {
  const known = MEASUREMENTS.map(({ name }) => name).join(", ");
  throw new Error(`--only: ${unknown} is unknown; there are ${known}`);
}

interface Table extends Held {
  readonly model: string;
  /** ISO 8601. */
  readonly begun: string;
  /** Of the minute before. */
  readonly load: number;
  readonly rows: Measured[];
}

const tables: Table[] = [];
for (const model of positionals) {
  if (peer !== undefined) await measure(model, peer, "auto", names);
  const inBoth = names.filter((name) => AVX2_MEASUREMENTS.includes(name));
  if (avx2Peer !== undefined) await measure(model, avx2Peer, "avx2", inBoth);
}

async function measure(
  model: string,
  folder: string,
  isa: Held["isa"],
  measured: readonly string[],
): Promise<void> {
  const table: Table = {
    ...{ model: basename(model), ...heldOf(await loadModel(model), isa) },
    ...{ begun: new Date().toISOString(), load: loadavg()[0] ?? 0, rows: [] },
  };
  tables.push(table);
  const setting = {
    ...{ model, peer: folder, isa },
    ...{ threads: Number(values.threads), rounds: Number(values.rounds) },
  };
  for (const measurement of MEASUREMENTS.filter(({ name }) => measured.includes(name))) {
    table.rows.push(...(await run(measurement, setting)));
    // What a session that is ended has measured is kept.
    if (values.json !== undefined) await Bun.write(values.json, JSON.stringify(tables, null, 2));
  }
  console.log(markdown(table));
}

function markdown(table: Table): string {
  const { model, type, isa, begun, load, rows } = table;
  return sectionMarkdown({
    title: `${model} (${type}${isa === "auto" ? "" : `, ${isa} on both sides`})`,
    columns: ["workload", "kvengine", "llama.cpp", "at", "ratio", "95 %", "bar", "met"],
    rows: rows.map((one) => {
      const bar = barOf(one.row, table);
      const { low, high } = one;
      return [
        one.title,
        one.ours.toFixed(1),
        one.peer.toFixed(1),
        one.peerSettings,
        one.ratio.toFixed(2),
        low === undefined || high === undefined ? "" : `${low.toFixed(2)} … ${high.toFixed(2)}`,
        bar?.toFixed(2) ?? "",
        bar === undefined ? "" : metIn(bar, one),
      ];
    }),
    texts: ["at", "95 %", "met"],
    notes: [
      `Tokens a second, medians of ${values.rounds} rounds in turns with ${values.threads} threads each; begun ${begun}, load ${load.toFixed(1)}.`,
    ],
  });
}

function metIn(bar: number, { ratio, low = 0 }: Measured): string {
  if (ratio < bar) return "no";
  return low >= bar ? "yes, surely" : "yes";
}
