/** Rows of the option table for `bench kv`. */

export const BENCH_KV_OPTIONS = {
  side: {
    group: "bench",
    type: "texts",
    default: ["off: --no-enable-prefix-caching", "device:"],
    hint: "name: engine flags",
    commands: ["bench kv"],
    help: "One of the engines to compare, by the flags it has beside the common ones; give it once for each",
    example: "host: --kv-connector cpu-offload",
  },
  scenario: {
    group: "bench",
    type: "choice",
    default: "sides",
    choices: ["sides", "fits", "beyond-host", "slow-disk", "restart"],
    commands: ["bench kv"],
    help: "What is compared: sides = those of --side; fits, beyond-host = without a disk and with one, where all KV fits on the device and where what comes again is three times the host's memory; slow-disk = beyond-host with a disk of 20 MB/s; restart = the first tokens of servers with an empty disk and of those that find their prompts on it",
    example: "restart",
  },
  "restart-prompt-len": {
    group: "bench",
    type: "integer",
    default: 2048,
    min: 32,
    max: 1_000_000,
    unit: "tokens",
    commands: ["bench kv"],
    help: "restart: tokens of a prompt",
    example: "4096",
  },
  "restart-num-prompts": {
    group: "bench",
    type: "integer",
    default: 4,
    min: 1,
    max: 1000,
    unit: "prompts",
    commands: ["bench kv"],
    help: "restart: prompts that a server is asked for, one at a time",
    example: "8",
  },
} as const;
