/** The model that tests with real input use; the test command downloads it before it starts them. */

import { homedir } from "node:os";
import { join } from "node:path";

/** `KVENGINE_TEST_MODEL`, otherwise the default model in kvengine's cache. */
export function defaultModelPath(): string {
  const { KVENGINE_TEST_MODEL: chosen = "", XDG_CACHE_HOME: cache = "" } = process.env as Record<
    string,
    string | undefined
  >;
  if (chosen !== "") return chosen;
  return join(
    cache === "" ? join(homedir(), ".cache") : cache,
    "kvengine",
    "models",
    "SmolLM2-135M-Instruct.Q4_1.gguf",
  );
}
