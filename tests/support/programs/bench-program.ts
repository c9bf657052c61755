/**
 * `bench serve` with small parts, as a process that can be sent signals. Its workload is a short turn and one that takes minutes;
 * `running` on standard output says that the first has ended. What it reported follows as JSON at its end.
 */

import { runCommand } from "citty";
import { benchServeCommand } from "../../../cli/bench/serve/command.ts";
import type { Turn, Workload } from "../../../cli/bench/types.ts";
import { testParts } from "../bench-parts.ts";

const tokens = { kind: "tokens", tokenIds: [1, 2, 3, 4] } as const;
const short: Turn = { thinkTimeMs: 0, maxTokens: 2, ignoreEos: true, prompt: () => tokens };
const long: Turn = {
  thinkTimeMs: 0,
  maxTokens: 8000,
  ignoreEos: true,
  prompt: () => {
    process.stdout.write("running\n");
    return tokens;
  },
};
const workload: Workload = {
  name: "long",
  seed: 0,
  parameters: {},
  conversations: [{ id: "c0", turns: [short, long] }],
};

const parts = testParts(() => workload);
const { result } = await runCommand(benchServeCommand(parts), { rawArgs: process.argv.slice(2) });
process.stdout.write(JSON.stringify(parts.outcomes));
process.exit(typeof result === "number" ? result : 1);
