/** `--otlp-traces-endpoint`: traces of requests to an OpenTelemetry collector. */

import type { ConsolaInstance } from "consola";
import type { OptionValues } from "../engine/config.ts";
import { KvEngineError } from "../engine/errors.ts";
import type { OtlpTracing } from "../engine/server/tracing/otlp.ts";
import { VERSION } from "./version.ts";

/** Time in which a message of spans is sent. */
const EXPORT_TIMEOUT_MS = 10_000;

/** Nothing where no traces are wanted: then the SDK is not loaded either. */
export async function startTracing(
  { otlpTracesEndpoint }: OptionValues,
  log: ConsolaInstance,
): Promise<OtlpTracing | undefined> {
  if (otlpTracesEndpoint === "") return undefined;
  const endpoint = tracesAddress(otlpTracesEndpoint);
  const tracing = await import("../engine/server/tracing/otlp.ts");
  return new tracing.OtlpTracing({
    endpoint,
    version: VERSION,
    timeoutMs: EXPORT_TIMEOUT_MS,
    onTrouble: (line) => log.warn(line),
  });
}

/** The address with its path. Throws `bad_config` for what is no address of OTLP by HTTP. */
export function tracesAddress(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url !== undefined && (url.username !== "" || url.password !== ""))
    throw bad(
      "the address holds a name or a password",
      "put credentials into the variable OTEL_EXPORTER_OTLP_HEADERS",
    );
  const isHttp = url?.protocol === "http:" || url?.protocol === "https:";
  if (url === undefined || !isHttp || url.port === "4317") {
    throw bad(
      `${text} is no address of OTLP by HTTP`,
      "collectors take OTLP by HTTP on port 4318: http://localhost:4318/v1/traces; gRPC, on 4317, is not spoken",
    );
  }
  if (url.pathname === "/") url.pathname = "/v1/traces";
  return url.href;
}

function bad(problem: string, hint: string): KvEngineError {
  const subject = "--otlp-traces-endpoint";
  return new KvEngineError("bad_config", `${subject}: ${problem}`, { subject, hint });
}
