/** Lines of the access log. */

import type { ConsolaInstance } from "consola";
import type { OptionValues } from "../engine/config.ts";
import type { AccessEntry, AccessLog } from "../engine/server/access-log.ts";
import { listOf } from "./serve-settings.ts";

/** Characters of a prompt that are shown. */
const MAX_PROMPT = 2000;

/** Nothing where no access log is wanted. */
export function accessLog(values: OptionValues, log: ConsolaInstance): AccessLog | undefined {
  if (!values.accessLog) return undefined;
  const flag = "--disable-access-log-for-endpoints";
  const silent = new Set(listOf(values.disableAccessLogForEndpoints, flag));
  return (entry) => {
    if (silent.has(entry.path)) return;
    if (values.logFormat === "json") log.info({ message: "request", ...jsonEntry(entry) });
    else log.info(accessLine(entry));
  };
}

/** Nothing where prompts are not to be logged. */
export function promptLog(
  values: OptionValues,
  log: ConsolaInstance,
): ((requestId: string, prompt: string) => void) | undefined {
  if (!values.enableLogRequests) return undefined;
  return (requestId, prompt) => {
    const shown = prompt.length > MAX_PROMPT ? `${prompt.slice(0, MAX_PROMPT)}…` : prompt;
    if (values.logFormat === "json")
      log.info({ message: "prompt", request_id: requestId, prompt: shown });
    else log.info(`prompt of ${requestId}: ${JSON.stringify(shown)}`);
  };
}

function accessLine({
  method,
  path,
  status,
  ms,
  requestId,
  key,
  usage,
  outcome,
}: AccessEntry): string {
  const tokens =
    usage === undefined
      ? ""
      : `, ${usage.promptTokens} tokens in (${usage.cachedTokens} cached), ${usage.completionTokens} out`;
  const end = outcome === undefined || outcome === "end" ? "" : `, ${outcome}`;
  const who = key === undefined ? "" : ` by ${key}`;
  return `${method} ${path} ${status} in ${ms.toFixed(1)} ms${tokens}${end} (${requestId}${who})`;
}

function jsonEntry({ requestId, usage, ...entry }: AccessEntry): object {
  return {
    request_id: requestId,
    ...entry,
    ms: Math.round(entry.ms * 1000) / 1000,
    ...(usage === undefined
      ? {}
      : {
          prompt_tokens: usage.promptTokens,
          cached_tokens: usage.cachedTokens,
          completion_tokens: usage.completionTokens,
        }),
  };
}
