import { KvEngineError } from "../../engine/errors.ts";

/** The `KvEngineError` that a call throws or rejects with; any other outcome fails the test. */
export async function thrownBy(call: () => unknown): Promise<KvEngineError> {
  try {
    await call();
  } catch (error) {
    if (error instanceof KvEngineError) return error;
    throw error;
  }
  throw new Error("nothing was thrown");
}
