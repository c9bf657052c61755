/** POST /v1/responses; GET, DELETE /v1/responses/{id}; POST …/cancel; GET …/input_items */

import type { Context } from "hono";
import { KvEngineError, toKvEngineError } from "../../errors.ts";
import type { ChatTemplateMessage } from "../../tokenizer/chat-template.ts";
import { collect } from "../answers.ts";
import { readJsonBody } from "../body.ts";
import { withoutMarks } from "../cache-control.ts";
import { ChatGeneration } from "../chat-generation.ts";
import type { AppContext, Env } from "../deps.ts";
import { noteForExplain } from "../explain/endpoint.ts";
import { wrong } from "../field-checks.ts";
import { jsonOrUndefined } from "../message/json-value.ts";
import { pinMarked } from "../pins/pin-marked.ts";
import { checkModel, limitTime, respond, warn } from "../respond.ts";
import { sessionOf } from "../sessions/session-of.ts";
import { traceAtEnd } from "../tracing/request-trace.ts";
import { ResponseFrames } from "./event-stream.ts";
import { parseResponsesRequest, type ResponsesRequest } from "./fields.ts";
import { type InputItem, toMessages } from "./input-items.ts";
import { ModelResponse } from "./response.ts";
import type { StoredResponse } from "./store.ts";

export async function createResponse(context: AppContext, c: Context<Env>): Promise<Response> {
  context.admit(c);
  const request = parseResponsesRequest(await readJsonBody(context, c.req.raw));
  checkModel(context, request.chat.model);
  const session = sessionOf(c, request.chat);
  if (request.store) context.responses.checkRoom();
  const before = previous(context, c, request);
  const messages = [...(before?.messages ?? []).map(withoutMarks), ...request.chat.messages];
  const asked = withInstructions(request, messages);
  const chat = await ChatGeneration.create(context, c, asked, "input");
  const response = new ModelResponse(context, request, chat);
  const { generation, prompt } = chat;
  const drawnId = response.id.replace(/^resp_/, "");
  noteForExplain(context, c, generation, 1, prompt.rendering, session, drawnId);
  const owner = c.get("caller").name;
  const inputBefore =
    before === undefined ? [] : [...before.input, ...before.response.output.items];
  const keep = (): void => {
    if (!request.store) return;
    context.responses.put({
      response,
      input: [...inputBefore, ...request.input],
      messages: [...messages, ...toMessages(response.output.items.filter(isReadable))],
      owner,
    });
  };
  if (request.background) return inBackground(context, c, response, keep);
  const options = { stream: request.chat.stream, ignored: chat.ignored, pins: chat.pins };
  return respond(context, c, chat.generation, options, {
    writer: () => new ResponseFrames(response, keep),
    async whole() {
      await collect(chat.generation, (delta) => response.add(delta));
      // Of a client that has gone nothing is kept.
      if (response.status !== "in_progress") keep();
      return response;
    },
  });
}

/** A call that was cut off, or whose arguments are no JSON, is nothing to go on from. */
function isReadable(item: InputItem): boolean {
  return (
    item["type"] !== "function_call" || jsonOrUndefined(String(item["arguments"])) !== undefined
  );
}

function withInstructions(
  { chat, instructions }: ResponsesRequest,
  messages: readonly ChatTemplateMessage[],
): ResponsesRequest["chat"] {
  const first = instructions === undefined ? [] : [{ role: "system", content: instructions }];
  return { ...chat, messages: [...first, ...messages] };
}

/** The answer comes at once; what it is about is written meanwhile and can be asked for. */
async function inBackground(
  context: AppContext,
  c: Context<Env>,
  response: ModelResponse,
  keep: () => void,
): Promise<Response> {
  const { generation, ignored } = response.chat;
  warn(c, ignored);
  traceAtEnd(context, c, generation);
  generation.start();
  limitTime(context, generation);
  keep();
  const { pins } = response.chat;
  if (pins.length > 0) await pinMarked(context, c, pins);
  const requestId = c.get("requestId");
  void collect(generation, (delta) => response.add(delta))
    .catch((thrown: unknown) => {
      const error = toKvEngineError(thrown);
      response.fail(error);
      if (error.status >= 500) context.deps.onError?.(error, requestId);
    })
    .finally(keep);
  return c.json(response);
}

function previous(
  context: AppContext,
  c: Context<Env>,
  { previousResponseId: id }: ResponsesRequest,
): StoredResponse | undefined {
  if (id === undefined) return undefined;
  const stored = context.responses.get(id, c.get("caller").name);
  if (stored === undefined)
    throw wrong("previous_response_id", id, "the id of a response that is stored here");
  if (stored.response.status === "in_progress")
    throw wrong("previous_response_id", id, "the id of a response that has ended");
  return stored;
}

export function retrieveResponse(context: AppContext, c: Context<Env>): Response {
  if (c.req.query("stream") === "true")
    throw wrong("stream", "true", "false: a stored response is not streamed again");
  return c.json(find(context, c).response);
}

export function deleteResponse(context: AppContext, c: Context<Env>): Response {
  const { response } = find(context, c);
  response.cancel();
  context.responses.delete(response.id);
  return c.json({ id: response.id, object: "response", deleted: true });
}

/** Gives up one that is written in the background; one that has ended is answered as it is. */
export function cancelResponse(context: AppContext, c: Context<Env>): Response {
  const { response } = find(context, c);
  if (!response.request.background)
    throw wrong("response_id", response.id, "a response with background: true");
  response.cancel();
  return c.json(response);
}

export function listInputItems(context: AppContext, c: Context<Env>): Response {
  const { input, response } = find(context, c);
  const data = input.map((item, i) => listed(item, `item_${response.id}_${i}`));
  return c.json({
    object: "list",
    data,
    first_id: data[0]?.["id"] ?? null,
    last_id: data.at(-1)?.["id"] ?? null,
    has_more: false,
  });
}

/** With what its short forms leave out. */
function listed(item: InputItem, id: string): InputItem {
  const { type = "message", content, ...rest } = item;
  if (type !== "message" || typeof content !== "string") return { id, type, ...item };
  const part = rest["role"] === "assistant" ? "output_text" : "input_text";
  return { id, type, ...rest, content: [{ type: part, text: content }] };
}

function find(context: AppContext, c: Context<Env>): StoredResponse {
  const id = c.req.param("id") ?? "";
  const stored = context.responses.get(id, c.get("caller").name);
  if (stored !== undefined) return stored;
  const shown = id.length > 100 ? `${id.slice(0, 100)}…` : id;
  throw new KvEngineError("not_found", `there is no response ${JSON.stringify(shown)}`, {
    subject: "response_id",
    hint: "responses are kept in memory, and the oldest make place for new ones",
  });
}
