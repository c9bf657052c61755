import type { GenerateRequest } from "./request.ts";

/** A view into a larger buffer would cross with all of it. */
export function withOwnPrompt(request: GenerateRequest): GenerateRequest {
  const { promptTokenIds } = request;
  if (promptTokenIds.byteLength === promptTokenIds.buffer.byteLength) return request;
  return { ...request, promptTokenIds: promptTokenIds.slice() };
}
