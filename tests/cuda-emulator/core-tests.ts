/** The core's own Rust tests on the emulated device. */
import { join } from "node:path";
import { emulated, type Flavour } from "./build.ts";

const MANIFEST: string = join(import.meta.dir, "..", "..", "kernels", "Cargo.toml");

interface CargoMessage {
  readonly reason: string;
  readonly executable?: string | null;
  readonly target?: { readonly name: string; readonly kind: readonly string[] };
}

/** Builds the core's test program, as `npm test` has it or fast, and answers its path. Throws with the compiler's words. */
export async function buildCoreTests(profile: "release" | "dev" = "release"): Promise<string> {
  const command = ["cargo", "test", "--manifest-path", MANIFEST, "-p", "kvengine_core", "--lib"];
  const child = Bun.spawn([...command, "--profile", profile, "--no-run", "--message-format=json"], {
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  const [messages, words] = await Promise.all([child.stdout.text(), child.stderr.text()]);
  if ((await child.exited) !== 0) throw new Error(`the core's tests do not build:\n${words}`);
  for (const line of messages.split("\n")) {
    if (!line.startsWith("{")) continue;
    const message: CargoMessage = JSON.parse(line);
    if (message.reason === "compiler-artifact" && typeof message.executable === "string")
      return message.executable;
  }
  throw new Error("cargo built no test program");
}

export interface CoreRun {
  readonly passed: number;
  /** What it printed, where something failed. */
  readonly failure: string | undefined;
}

/** Runs the tests whose names contain one of `filters`, on one thread: the emulated device is the process's. */
export async function runCoreTests(
  program: string,
  filters: readonly string[],
  flavour: Flavour,
  settings: string,
): Promise<CoreRun> {
  const child = Bun.spawn([program, "--test-threads=1", ...filters], {
    env: {
      ...process.env,
      ...emulated(flavour, settings),
      KVENGINE_TEST_CUDA: "1",
      RUST_BACKTRACE: "0",
    },
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  const [output, errors] = await Promise.all([child.stdout.text(), child.stderr.text()]);
  const code = await child.exited;
  const passed = Number(/test result: \w+\. (\d+) passed/.exec(output)?.[1] ?? 0);
  return {
    passed,
    failure: code === 0 ? undefined : `${settings}: code ${code}\n${output}${errors}`,
  };
}

/** Runs `task` for each item, two at a time: the machine of the tests has two cores. */
export async function twoAtATime<T>(
  items: readonly T[],
  task: (item: T) => Promise<void>,
): Promise<void> {
  let next = 0;
  const work = async (): Promise<void> => {
    for (let i = next++; i < items.length; i = next++) await task(items[i] as T);
  };
  await Promise.all([work(), work()]);
}
