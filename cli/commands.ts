/** What `--help` says of each command, and where its code lies. Loaded at once; the code only when it runs. */

import type { CommandDef } from "citty";
import type { CommandName } from "../engine/option.ts";
import type { Positional } from "./flags.ts";

export interface CommandUsage {
  readonly summary: string;
  readonly positionals: readonly Positional[];
  /** Whole command lines and what they do. */
  readonly examples: readonly (readonly [line: string, meaning: string])[];
  readonly load: () => Promise<CommandDef>;
}

const SESSION = {
  name: "session",
  help: "its name, as requests give it in session_id, or the `id` of an answer",
  required: true,
} as const;
const MODEL_HELP = "a GGUF file, an alias (smollm2-135m), or hf:org/repo[:quant|/file.gguf]";
const MODEL: Positional = { name: "model", help: MODEL_HELP, required: true };

export const COMMAND_USAGE: Readonly<Record<CommandName, CommandUsage>> = {
  serve: {
    summary: "Serve a model over the OpenAI API",
    positionals: [
      { name: "model", help: `${MODEL_HELP}; without one, smollm2-135m`, required: false },
    ],
    examples: [
      ["kvengine serve smollm2-135m", "on 127.0.0.1:8000"],
      ["kvengine serve ./model.gguf --host 0.0.0.0 --port 9000 --max-num-seqs 8", ""],
      ["KVENGINE_API_KEY=secret kvengine serve hf:org/repo:Q4_K_M --config kvengine.toml", ""],
    ],
    load: async () => (await import("./serve.ts")).default,
  },
  run: {
    summary: "Answer one prompt on the terminal",
    positionals: [
      MODEL,
      {
        name: "prompt",
        help: "the prompt; standard input is read when it is not a terminal",
        required: false,
      },
    ],
    examples: [
      ['kvengine run smollm2-135m "Name three colours."', ""],
      ["kvengine run ./model.gguf --temperature 0 --max-tokens 100 < question.txt", ""],
      [
        'git diff | kvengine run smollm2-135m "Summarise this change:"',
        "the prompt, then what is piped in",
      ],
    ],
    load: async () => (await import("./run.ts")).default,
  },
  chat: {
    summary: "Talk with a model on the terminal",
    positionals: [MODEL],
    examples: [
      ["kvengine chat smollm2-135m", "/clear forgets, /exit ends, Ctrl-C stops an answer"],
      ['kvengine chat ./model.gguf --system "Answer in French." --seed 1', ""],
    ],
    load: async () => (await import("./chat.ts")).default,
  },
  "bench engine": {
    summary: "Measure prompt and generation rates, as llama-bench does",
    positionals: [MODEL],
    examples: [
      ["kvengine bench engine smollm2-135m", "a prompt of 512 tokens, then 128 generated ones"],
      ["kvengine bench engine ./model.gguf -p 128,512 -n 64 -r 10 --threads 2 --json", ""],
      [
        "kvengine bench engine ./model.gguf -p 0 -d 0,1024-8192*2",
        "generation behind longer and longer contexts",
      ],
      ["kvengine bench engine ./model.gguf -npp 128 -ntg 64 -npl 1-32*2", "sequences side by side"],
      ["kvengine bench engine ./model.gguf --limits --peer llama.cpp=./llama.cpp/build/bin", ""],
    ],
    load: async () => (await import("./bench/engine/command.ts")).default,
  },
  "bench serve": {
    summary: "Measure a server as its clients see it: kvengine, or any with the OpenAI API",
    positionals: [
      {
        name: "model",
        help: `${MODEL_HELP}; without one, smollm2-135m. With --base-url, whose tokens prompts are made of`,
        required: false,
      },
    ],
    examples: [
      ["kvengine bench serve smollm2-135m --request-rate 4", "starts kvengine for the run"],
      [
        "kvengine bench serve ./model.gguf --base-url http://127.0.0.1:8000 --max-concurrency 16",
        "",
      ],
      [
        "kvengine bench serve smollm2-135m --slo-search ttft:500,tpot:50",
        "the largest rate that holds",
      ],
      [
        'kvengine bench serve smollm2-135m --peer llama-server=./llama-server --ab "a:" --ab "b: llama-server -np 32"',
        "kvengine against a peer",
      ],
    ],
    load: async () => (await import("./bench/serve/command.ts")).default,
  },
  "bench throughput": {
    summary: "Measure a workload straight in the engine, without HTTP",
    positionals: [
      { name: "model", help: `${MODEL_HELP}; without one, smollm2-135m`, required: false },
    ],
    examples: [
      ["kvengine bench throughput smollm2-135m", ""],
      ["kvengine bench throughput ./model.gguf --threads 2 --max-concurrency 64 --json", ""],
    ],
    load: async () => (await import("./bench/throughput/command.ts")).default,
  },
  "bench scheduler": {
    summary: "Measure what deciding costs: steps that compute nothing",
    positionals: [],
    examples: [
      ["kvengine bench scheduler", "1, 32 and 256 running requests"],
      ["kvengine bench scheduler --num-running 256 --num-steps 500 --json", ""],
      [
        "kvengine bench scheduler --num-running 256 --kv-connector cpu-offload",
        "what a KV connector adds",
      ],
    ],
    load: async () => (await import("./bench/scheduler/command.ts")).default,
  },
  "bench kv": {
    summary: "Compare engines that keep KV differently on the same workload",
    positionals: [
      { name: "model", help: `${MODEL_HELP}; without one, smollm2-135m`, required: false },
    ],
    examples: [
      [
        "kvengine bench kv smollm2-135m",
        "questions about documents, without a prefix cache and with one that is too small",
      ],
      [
        'kvengine bench kv smollm2-135m --side "off:" --side "eager: --kv-connector cpu-offload --kv-connector-options \'{\\"mode\\": \\"eager\\"}\'"',
        "without offload and with it",
      ],
      [
        "kvengine bench kv smollm2-135m --scenario restart --kv-disk-path /var/tmp",
        "the first tokens of a server that finds its prompts on the disk, and of one that computes them",
      ],
      [
        'kvengine bench kv ./model.gguf --dataset-name multi-turn --max-concurrency 16 --side "few: --num-gpu-blocks-override 512" --side "many: --num-gpu-blocks-override 4096"',
        "",
      ],
    ],
    load: async () => (await import("./bench/kv/command.ts")).default,
  },
  "bench compare": {
    summary: "Compare result files: ratios with 95 % intervals, and an exit code for CI",
    positionals: [
      { name: "a", help: "a result file of bench serve, or of vllm bench serve", required: true },
      { name: "b", help: "the same of the other side; without one, a holds both", required: false },
    ],
    examples: [
      ["kvengine bench compare before.json after.json", "several runs in each file"],
      ["kvengine bench compare ab.json --report ab.html", "a session of bench serve --ab"],
      ["kvengine bench compare a.json b.json --fail-if 'tpot_p99>1.05x'", "exits with 1 if so"],
    ],
    load: async () => (await import("./bench/compare/command.ts")).default,
  },
  "bench results": {
    summary:
      "Measure a machine and write the page of results: the grid, its limits, served workloads",
    positionals: [
      { name: "model", help: `${MODEL_HELP}; without one, smollm2-135m`, required: false },
    ],
    examples: [
      [
        "kvengine bench results --peer llama.cpp=./llama.cpp/build/bin --peer llama-server=./llama.cpp/build/bin/llama-server",
        "bench/RESULTS.md, against llama.cpp",
      ],
      [
        "kvengine bench results ./model.gguf --results-page page.md --time-limit 600",
        "begins nothing after ten minutes; the next call goes on",
      ],
    ],
    load: async () => (await import("./bench/results/command.ts")).default,
  },
  demo: {
    summary: "Show what becomes of a prompt's KV: cold, hit, evicted, restored, restarted",
    positionals: [
      { name: "model", help: `${MODEL_HELP}; without one, smollm2-135m`, required: false },
    ],
    examples: [["kvengine demo", "in less than a minute; leaves nothing behind"]],
    load: async () => (await import("./demo/command.ts")).default,
  },
  explain: {
    summary: "Say why a request's prompt was cached as far as it was",
    positionals: [
      {
        name: "id",
        help: "the `id` of an answer, or its header x-kvengine-explain",
        required: true,
      },
    ],
    examples: [
      ["kvengine explain chatcmpl-5d1c5f0e-2f0e-4a43-9d6b-0c8f7a5b1c11", ""],
      [
        "kvengine explain 5d1c5f0e-2f0e-4a43-9d6b-0c8f7a5b1c11 --against 0b7e3c9a-6a52-4a0c-8f7d-2d1c5b9e4f60",
        "where two requests part",
      ],
      [
        "kvengine explain 5d1c5f0e-2f0e-4a43-9d6b-0c8f7a5b1c11 --url http://127.0.0.1:9000 --json",
        "",
      ],
    ],
    load: async () => (await import("./explain.ts")).default,
  },
  "kv pin": {
    summary: "Keep a prompt's KV in the host's memory for a while",
    positionals: [
      {
        name: "id",
        help: "the `id` of an answer to it, or its header x-kvengine-explain",
        required: true,
      },
    ],
    examples: [
      ["kvengine kv pin chatcmpl-5d1c5f0e-2f0e-4a43-9d6b-0c8f7a5b1c11", "for an hour"],
      [
        "kvengine kv pin chatcmpl-5d1c5f0e-2f0e-4a43-9d6b-0c8f7a5b1c11 --pin-tokens 2048 --pin-ttl 86400",
        "its beginning, for a day",
      ],
    ],
    load: async () => (await import("./kv/pin.ts")).default,
  },
  "kv unpin": {
    summary: "End a pin before its time",
    positionals: [{ name: "pin", help: "its id, as `kvengine kv pins` shows it", required: true }],
    examples: [["kvengine kv unpin pin-0b7e3c9a-6a52-4a0c-8f7d-2d1c5b9e4f60", ""]],
    load: async () => (await import("./kv/unpin.ts")).default,
  },
  "kv pins": {
    summary: "List the prompts that are pinned",
    positionals: [],
    examples: [
      ["kvengine kv pins", ""],
      ["kvengine kv pins --url http://127.0.0.1:9000 --json", ""],
    ],
    load: async () => (await import("./kv/pins.ts")).default,
  },
  "session ls": {
    summary: "List sessions: conversations that requests have named by session_id",
    positionals: [],
    examples: [
      ["kvengine session ls", ""],
      ["kvengine session ls --url http://127.0.0.1:9000 --json", ""],
    ],
    load: async () => (await import("./sessions/ls.ts")).default,
  },
  "session freeze": {
    summary: "Keep a session's KV on the disk, or in the host's memory where there is no disk",
    positionals: [SESSION],
    examples: [
      ["kvengine session freeze trip", "for a day"],
      ["kvengine session freeze trip --session-ttl 604800", "for a week"],
      ["kvengine session freeze chatcmpl-5d1c5f0e-2f0e-4a43-9d6b-0c8f7a5b1c11", ""],
    ],
    load: async () => (await import("./sessions/freeze.ts")).default,
  },
  "session thaw": {
    summary:
      "Bring a session's KV to the host's memory for its next message, and keep it no longer",
    positionals: [SESSION],
    examples: [["kvengine session thaw trip", ""]],
    load: async () => (await import("./sessions/thaw.ts")).default,
  },
  "session export": {
    summary: "Write a session's KV and token ids to a file; texts are not in it",
    positionals: [SESSION, { name: "file", help: "the file to write", required: true }],
    examples: [
      ["kvengine session export trip trip.kv", "goes on with `session import` on another machine"],
    ],
    load: async () => (await import("./sessions/export.ts")).default,
  },
  "session import": {
    summary:
      "Read a session from a file that the same model wrote, so that its next message finds it",
    positionals: [
      { name: "file", help: "a file of `session export`, from somebody you trust", required: true },
    ],
    examples: [
      ["kvengine session import trip.kv", "kept for a day"],
      ["kvengine session import trip.kv --session-name holiday --session-ttl 3600", ""],
    ],
    load: async () => (await import("./sessions/import.ts")).default,
  },
  inspect: {
    summary: "Show what is in a model",
    positionals: [MODEL],
    examples: [
      ["kvengine inspect smollm2-135m", "metadata, and tensors by type"],
      ["kvengine inspect ./model.gguf --tape", "the operations of one step"],
      ["kvengine inspect ./model.gguf --json", ""],
    ],
    load: async () => (await import("./inspect.ts")).default,
  },
  pull: {
    summary: "Get a model and print where it lies",
    positionals: [MODEL],
    examples: [
      ["kvengine pull smollm2-135m", ""],
      ["kvengine pull hf:org/repo:Q4_K_M", "into the Hugging Face cache"],
    ],
    load: async () => (await import("./pull.ts")).default,
  },
  connectors: {
    summary: "List the KV connectors that are built in, with their options",
    positionals: [
      { name: "file", help: "a TypeScript file: its options instead", required: false },
    ],
    examples: [
      ["kvengine connectors", ""],
      ["kvengine connectors ./my-connector.ts", "what its options are"],
      ["kvengine connectors --json", ""],
    ],
    load: async () => (await import("./connectors.ts")).default,
  },
  "connectors test": {
    summary: "Try a KV connector against the rules of its interface",
    positionals: [
      {
        name: "connector",
        help: "a TypeScript file, an installed package, or the name of one that is built in",
        required: true,
      },
    ],
    examples: [
      ["kvengine connectors test ./my-connector.ts", "says what failed and why"],
      [`kvengine connectors test ./my-connector.ts --kv-connector-options '{"size": 8}'`, ""],
    ],
    load: async () => (await import("./connectors-test.ts")).default,
  },
  "connectors types": {
    summary: "Write the types of `kvengine/connector`, so that an editor knows them",
    positionals: [
      {
        name: "folder",
        help: "where the connector lies; without one, the current folder",
        required: false,
      },
    ],
    examples: [
      ["kvengine connectors types", "into ./node_modules/kvengine"],
      ["kvengine connectors types ~/my-connector", ""],
    ],
    load: async () => (await import("./connectors-types.ts")).default,
  },
  doctor: {
    summary: "Report what this machine has: processor, memory, GPU driver, folders",
    positionals: [],
    examples: [
      ["kvengine doctor", ""],
      ["kvengine doctor --json", ""],
    ],
    load: async () => (await import("./doctor.ts")).default,
  },
};
