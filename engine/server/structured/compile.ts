/** From the form that an answer is to have to a grammar that the engine has compiled. */

import { KvEngineError, toKvEngineError } from "../../errors.ts";
import type { GrammarRef } from "../../request.ts";
import type { AppContext } from "../deps.ts";

/** A grammar's text, and the field that it came from. */
export interface GrammarText {
  readonly field: string;
  readonly text: string;
}

export interface AnswerGrammar {
  readonly ref: GrammarRef;
  /** Names of what is only roughly kept, for the header of warnings. */
  readonly warnings: readonly string[];
}

/** Throws `invalid_request` naming the field, before anything is queued. */
export async function compileGrammar(
  { deps }: AppContext,
  grammar: GrammarText | undefined,
): Promise<AnswerGrammar | undefined> {
  if (grammar === undefined) return undefined;
  const { field, text } = grammar;
  try {
    const { key, warnings } = await deps.client.compileGrammar({ text });
    return { ref: { key }, warnings: warnings.map((warning) => `${field}: ${warning}`) };
  } catch (thrown) {
    const error = toKvEngineError(thrown);
    if (error.code !== "invalid_request") throw error;
    throw new KvEngineError(
      "invalid_request",
      `${field} cannot be followed: ${reason(error.message)}`,
      {
        subject: field,
        ...(error.hint === undefined ? {} : { hint: error.hint }),
        cause: error,
      },
    );
  }
}

/** The crate's first line; places are in what was made of the field, which for all but grammars is one line. */
function reason(message: string): string {
  const [first = ""] = message.split("\n");
  if (first === "NoExtensionBias") return "no text has this form";
  const says = first.replace(/^at 1\(\d+\): /, "");
  return says.length > MAX_REASON ? `${says.slice(0, MAX_REASON)}…` : says;
}

const MAX_REASON = 400;
