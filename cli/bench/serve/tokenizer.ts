/** The tokenizer that prompts are made with. */

import type { ConsolaInstance } from "consola";
import type { OptionValues } from "../../../engine/config.ts";
import { KvEngineError } from "../../../engine/errors.ts";
import { loadModel } from "../../../engine/models/registry.ts";
import {
  createTokenizer,
  createTokenizerFromJson,
  type Tokenizer,
} from "../../../engine/tokenizer/tokenizer.ts";
import { findModel } from "../../session.ts";

/**
 * Of `--tokenizer`, else of the model. Throws `bad_config` where neither is named.
 * @param model its file, where it is known.
 */
export async function openTokenizer(
  values: OptionValues,
  model: string | undefined,
  log: ConsolaInstance,
): Promise<Tokenizer> {
  const { tokenizer } = values;
  if (tokenizer.endsWith(".json")) return fromJson(tokenizer);
  const path = tokenizer === "" ? model : await findModel(tokenizer, values, log);
  if (path === undefined) {
    throw new KvEngineError("bad_config", "whose tokens are prompts to be made of?", {
      subject: "--tokenizer",
      hint: "name the model that the server serves, or give --tokenizer",
    });
  }
  return createTokenizer((await loadModel(path)).vocabulary);
}

async function fromJson(path: string): Promise<Tokenizer> {
  try {
    return createTokenizerFromJson(await Bun.file(path).text());
  } catch (cause) {
    throw new KvEngineError("bad_config", `the tokenizer ${path} cannot be read`, {
      subject: "--tokenizer",
      cause,
    });
  }
}
