/** A side of a bench: a server that runs already, or one to start. */

import { fileURLToPath } from "node:url";
import { KvEngineError } from "../../../engine/errors.ts";
import type { ServerCommand } from "./child-server.ts";
import { splitWords } from "./words.ts";

export interface Side {
  /** Of the run. */
  readonly label: string;
  readonly server: RunningServer | StartableServer;
}

export interface RunningServer {
  readonly kind: "running";
  readonly baseUrl: string;
}

export interface StartableServer {
  readonly kind: "start";
  readonly command: ServerCommand;
}

/** `--peer NAME=PATH`: programs by name. */
export type Peers = ReadonlyMap<string, string>;

/** Throws `bad_config` for what is not `name=path`, and for a name that is given twice. */
export function parsePeers(texts: readonly string[]): Peers {
  const peers = new Map<string, string>();
  for (const text of texts) {
    const [, name, path] = /^([\w.-]+)=(.+)$/.exec(text) ?? [];
    if (name === undefined || path === undefined || peers.has(name)) {
      const what = name === undefined ? "is not NAME=PATH" : "names a peer twice";
      throw new KvEngineError("bad_config", `--peer: \`${text}\` ${what}`, {
        subject: "--peer",
        hint: "an example is `--peer llama-server=./llama.cpp/build/bin/llama-server`",
      });
    }
    peers.set(name, path);
  }
  return peers;
}

/** `a: …`. Throws `bad_config`. @param model file of the model that servers are started with; undefined = none was named. */
export function parseSide(text: string, model: string | undefined, peers: Peers): Side {
  const [, label, rest] = /^([\w.-]+):(?:\s+(.*))?$/s.exec(text.trim()) ?? [];
  if (label === undefined) throw wrongSide(text, "does not begin with a name and a colon", peers);
  const words = splitWords(rest ?? "", "--ab");
  const [first] = words;
  if (first !== undefined && /^https?:\/\//.test(first)) {
    if (words.length > 1) throw wrongSide(text, "has more than an address", peers);
    return { label, server: runningServer(first, "--ab") };
  }
  if (first !== undefined && peers.has(first))
    return { label, server: peerServer(first, model, words.slice(1), peers) };
  if (first !== undefined && !first.startsWith("-"))
    throw wrongSide(text, `begins with \`${first}\``, peers);
  return { label, server: kvengineServer(model, words) };
}

/** Throws `bad_config` for what is no address. */
export function runningServer(address: string, subject: string): RunningServer {
  const url = URL.canParse(address) ? new URL(address) : undefined;
  if (url === undefined || !/^https?:$/.test(url.protocol)) {
    throw new KvEngineError("bad_config", `${subject}: \`${address}\` is no http address`, {
      subject,
      hint: "an example is `http://127.0.0.1:8000`",
    });
  }
  // Both are seen: the address of the server, and that of its API.
  return { kind: "running", baseUrl: address.replace(/\/+$/, "").replace(/\/v1$/, "") };
}

/** This program, with flags of `serve`. */
export function kvengineServer(
  model: string | undefined,
  flags: readonly string[],
): StartableServer {
  const file = named(model);
  const script = Bun.isStandaloneExecutable
    ? []
    : [fileURLToPath(new URL("../../main.ts", import.meta.url))];
  const words = [process.execPath, ...script, "serve", file, "--port", "0", ...flags];
  return { kind: "start", command: { name: "kvengine", words } };
}

/**
 * A program of `--peer`. llama-server gets the model and a port; any other one must have `{port}` among its arguments, and may have
 * `{model}`. Throws `bad_config`.
 */
export function peerServer(
  name: string,
  model: string | undefined,
  flags: readonly string[],
  peers: Peers,
): StartableServer {
  const file = named(model);
  const path = peers.get(name);
  if (path === undefined) throw wrongSide(name, "is not the name of a peer", peers);
  const filled = flags.map((flag) => flag.replaceAll("{model}", file));
  if (name === "llama-server") {
    const own = ["-m", file, "--host", "127.0.0.1", "--port", "{port}", "--metrics"];
    return { kind: "start", command: { name, words: [path, ...own, ...filled] } };
  }
  if (!filled.some((flag) => flag.includes("{port}"))) {
    throw new KvEngineError("bad_config", `the peer ${name} gets no port`, {
      subject: "--peer",
      hint: `put {port} where its port goes: "${name} serve {model} --port {port}"`,
    });
  }
  return { kind: "start", command: { name, words: [path, ...filled] } };
}

function named(model: string | undefined): string {
  if (model !== undefined) return model;
  throw new KvEngineError("bad_config", "<model> is missing: a server is to be started", {
    subject: "model",
    hint: "name the model before the flags",
  });
}

function wrongSide(text: string, what: string, peers: Peers): KvEngineError {
  const names = [...peers.keys()];
  const forms = [
    "`name: --flags of kvengine serve`",
    "`name: http://host:port`",
    `\`name: PEER arguments\` with a PEER of --peer${names.length === 0 ? "" : ` (${names.join(", ")})`}`,
  ];
  return new KvEngineError("bad_config", `the side \`${text}\` ${what}`, {
    subject: "--ab",
    hint: `a side is ${forms.join(", or ")}`,
  });
}
