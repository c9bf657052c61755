/** The core's own Rust tests on the emulated device. */
import { join } from "node:path";

const ROOT: string = join(import.meta.dir, "..", "..");

interface CargoMessage {
  readonly reason: string;
  readonly executable?: string | null;
  readonly target?: { readonly name: string; readonly kind: readonly string[] };
}

/**
 * Builds the core's test program and answers its path. Throws with the compiler's words.
 * @param root the repository; a copy of this one needs a folder for what is built of it: to cargo it would be the same package.
 */
export async function buildCoreTests(
  root: string = ROOT,
  target: string = join(root, "kernels", "target"),
): Promise<string> {
  const manifest = join(root, "kernels", "Cargo.toml");
  const command = ["cargo", "test", "--manifest-path", manifest, "-p", "kvengine_core", "--lib"];
  const child = Bun.spawn([...command, "--release", "--no-run", "--message-format=json"], {
    env: { ...process.env, CARGO_TARGET_DIR: target },
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

/**
 * Runs the tests whose names contain one of `filters`, on one thread: the emulated device is the process's.
 * @param device environment in which it is found.
 */
export async function runCoreTests(
  program: string,
  filters: readonly string[],
  device: Record<string, string>,
): Promise<CoreRun> {
  const child = Bun.spawn([program, "--test-threads=1", ...filters], {
    env: {
      ...process.env,
      ...device,
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
    failure:
      code === 0 ? undefined : `${device["CUDA_EMULATOR"]}: code ${code}\n${output}${errors}`,
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
