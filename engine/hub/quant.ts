/** Chooses a model file of a repository by its quantisation, which stands in the file's name. */

import { KvEngineError } from "../errors.ts";
import type { HubSpec } from "./model-spec.ts";

/** Taken where the user named none, in this order. */
const DEFAULT_QUANTS = ["Q4_K_M", "Q8_0"];
const PART = /-\d{5}-of-\d{5}\.gguf$/i;
/** Files of vision parts and of importance matrices end in .gguf too. */
const NOT_A_MODEL = /(?:^|[/._-])(?:mmproj|imatrix)(?:[._-]|$)/i;
const MOST_LISTED = 20;

/** The file, or undefined where none has the quantisation. The shortest path wins among several. */
export function chooseFile(
  paths: readonly string[],
  quant: string | undefined,
): string | undefined {
  const models = paths.filter(
    (path) => path.toLowerCase().endsWith(".gguf") && !NOT_A_MODEL.test(path) && !PART.test(path),
  );
  if (quant === undefined && models.length === 1) return models[0];
  for (const wanted of quant === undefined ? DEFAULT_QUANTS : [quant]) {
    // Q4_K must not find Q4_K_M, nor F16 find BF16.
    const inName = new RegExp(`(?:^|[/._-])${RegExp.escape(wanted)}(?=[.-][^/]*$)`, "i");
    const [best] = models
      .filter((path) => inName.test(path))
      .sort((a, b) => a.length - b.length || a.localeCompare(b));
    if (best !== undefined) return best;
  }
  return undefined;
}

/** Why there is none, with what there is. */
export function noSuchFile(spec: HubSpec, paths: readonly string[]): KvEngineError {
  const models = paths.filter((path) => path.toLowerCase().endsWith(".gguf"));
  const wanted = spec.file ?? spec.quant ?? DEFAULT_QUANTS.join(" or ");
  if (models.length === 0) {
    return new KvEngineError("model_not_found", `${spec.repo} has no GGUF file`, {
      subject: spec.repo,
      hint: "look for a repository with GGUF in its name",
    });
  }
  const listed = models.slice(0, MOST_LISTED).join(", ");
  const more = models.length > MOST_LISTED ? ` and ${models.length - MOST_LISTED} more` : "";
  const parts = models.some((path) => PART.test(path))
    ? "; models in several parts cannot be read yet"
    : "";
  return new KvEngineError(
    "model_not_found",
    `${spec.repo} has no ${wanted} file; it has ${listed}${more}${parts}`,
    {
      subject: spec.repo,
      hint: `name one: hf:${spec.repo}/${models[0] ?? ""}`,
    },
  );
}
