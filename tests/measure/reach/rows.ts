/** The rows of the reach table, and how each is measured. */

export type RowName =
  | "prompt-512"
  | "prompt-2048"
  | "one"
  | "one-deep"
  | "streams-decode"
  | "streams"
  | "shared-decode"
  | "shared"
  | "served"
  | "multi-turn";

/** Rows that one call of a bench measures. */
export interface Measurement {
  readonly name: string;
  readonly bench: "engine" | "serve";
  readonly flags: readonly string[];
  readonly rows: readonly Row[];
}

export interface Row {
  readonly name: RowName;
  readonly title: string;
  /** Of `bench engine`: the name of the test's row. */
  readonly test?: string;
}

/** Slots and KV tokens of llama-server; kvengine gets as many sequences. */
const SLOTS = 16;
export const LLAMA_SERVER_FLAGS: string = `-np ${SLOTS} -kvu -c 16384`;
export const KVENGINE_FLAGS: string = `--max-num-seqs ${SLOTS}`;

export const MEASUREMENTS: readonly Measurement[] = [
  {
    name: "prompts",
    bench: "engine",
    flags: ["-p", "512,2048", "-n", "0"],
    rows: [
      { name: "prompt-512", title: "prompt of 512", test: "pp512" },
      { name: "prompt-2048", title: "prompt of 2,048", test: "pp2048" },
    ],
  },
  {
    name: "one",
    bench: "engine",
    flags: ["-p", "0", "-n", "128", "-d", "0,2048"],
    rows: [
      { name: "one", title: "one stream, 128 tokens", test: "tg128" },
      { name: "one-deep", title: "one stream at depth 2,048", test: "tg128 @ d2048" },
    ],
  },
  {
    name: "streams",
    bench: "engine",
    flags: ["-p", "0", "-n", "0", "-npl", "32", "-npp", "128", "-ntg", "64"],
    rows: [
      { name: "streams-decode", title: "32 streams: outputs", test: "tg64 x32 @ d128" },
      { name: "streams", title: "32 streams: all", test: "pp128+tg64 x32" },
    ],
  },
  {
    name: "shared",
    bench: "engine",
    flags: ["-p", "0", "-n", "0", "-npl", "32", "-npp", "1024", "-ntg", "64", "-pps"],
    rows: [
      {
        name: "shared-decode",
        title: "32 streams behind one prefix of 1,024: outputs",
        test: "tg64 x32 shared @ d1024",
      },
      {
        name: "shared",
        title: "32 streams behind one prefix of 1,024: all",
        test: "pp1024+tg64 x32 shared",
      },
    ],
  },
  {
    name: "served",
    bench: "serve",
    flags: [
      ...["--random-input-len", "700", "--random-output-len", "64"],
      ...["--num-prompts", "32", "--max-concurrency", String(SLOTS)],
    ],
    rows: [{ name: "served", title: "served: 16 at a time, 700 in, 64 out" }],
  },
  {
    name: "multi-turn",
    bench: "serve",
    flags: [
      ...["--dataset-name", "multi-turn", "--num-prompts", "16", "--multi-turn-turns", "3"],
      ...["--multi-turn-common-len", "128", "--multi-turn-first-len", "256"],
      ...["--multi-turn-message-len", "64", "--multi-turn-output-len", "48"],
      ...["--max-concurrency", String(SLOTS)],
    ],
    rows: [{ name: "multi-turn", title: "served: 16 conversations of 3 turns" }],
  },
];

/** What the instruction set of another peer is compared in. */
export const AVX2_MEASUREMENTS: readonly string[] = ["prompts", "one", "streams"];
