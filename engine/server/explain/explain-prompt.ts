/** The engine's facts of one prompt, in the words of the request. */

import type { Compared, PromptFacts } from "../../explain/facts.ts";
import type { Tokenizer } from "../../tokenizer/tokenizer.ts";
import type { Noted } from "./explain-book.ts";
import type { PromptExplanation, TokenExplanation } from "./explanation.ts";
import { hintsOf } from "./hints.ts";
import { type Place, placeOf } from "./place.ts";
import type { Rendering } from "./rendering.ts";
import { sentenceOf } from "./sentence.ts";

export interface PromptSides {
  readonly index: number;
  readonly facts: PromptFacts;
  readonly own: Pick<Noted, "rendering">;
  /** The closest request, where its conversation is known. */
  readonly closest: Pick<Noted, "rendering"> | undefined;
}

export function explainPrompt(tokenizer: Tokenizer, sides: PromptSides): PromptExplanation {
  const { index, facts, own } = sides;
  const { tokenIds, closest, against, removal, receipt } = facts;
  const position = placeInQuestion(facts);
  const isAtClosest = closest !== undefined && position === closest.commonTokens;
  const otherId = isAtClosest ? closest.otherTokenId : undefined;
  const place =
    position === undefined
      ? undefined
      : placeOf(tokenizer, tokenIds, position, otherId, own.rendering);
  const difference =
    facts.cause === "differs" && place !== undefined ? differenceOf(place, sides) : null;
  const told = {
    index,
    request: facts.number,
    state: facts.state,
    prompt_tokens: tokenIds.length,
    cached_tokens: facts.cachedTokens,
    hit_tokens: facts.hitTokens,
    tiers: { ...receipt?.byTier },
    load_ms: receipt?.loadMs ?? null,
    saved_ms: receipt?.savedMs ?? null,
    cause: facts.cause,
    difference,
    token:
      place === undefined || position === undefined
        ? null
        : tokenJson(place, position, tokenIds[position] as number, own.rendering),
    closest: closest === undefined ? null : comparedJson(closest),
    against: against === undefined ? null : againstJson(tokenizer, against),
    removed:
      removal === undefined
        ? null
        : {
            at: removal.at / 1000,
            by_request: removal.byRequest ?? null,
            tier_dropped_at: facts.droppedAt === undefined ? null : facts.droppedAt / 1000,
          },
    runs: facts.runs.map(({ start, end, kind, tier }) => ({
      start,
      end,
      state: kind,
      tier: tier ?? null,
    })),
  };
  return {
    ...told,
    sentence: sentenceOf(told, facts.blockSize, facts.isComplete),
    hints: hintsOf(facts, difference),
  };
}

/** Of a request that the engine has forgotten. */
export function forgottenPrompt(index: number): PromptExplanation {
  const told = {
    index,
    request: 0,
    state: "forgotten" as const,
    prompt_tokens: 0,
    cached_tokens: 0,
    hit_tokens: 0,
    tiers: {},
    load_ms: null,
    saved_ms: null,
    cause: "unknown" as const,
    difference: null,
    token: null,
    closest: null,
    against: null,
    removed: null,
    runs: [],
  };
  return { ...told, sentence: sentenceOf(told, 0, false), hints: [] };
}

/** Where the closest request goes on differently, if that is why; else the first computed token. */
function placeInQuestion({
  state,
  cause,
  hitTokens,
  tokenIds,
  closest,
}: PromptFacts): number | undefined {
  if (state !== "answered") return undefined;
  const isByTokens = cause === "differs" || cause === "new_tokens" || cause === "in_progress";
  const position = isByTokens && closest !== undefined ? closest.commonTokens : hitTokens;
  return position < tokenIds.length ? position : undefined;
}

function differenceOf(
  { part, looksLike }: Place,
  { own, closest }: PromptSides,
): PromptExplanation["difference"] {
  const [mine, others] = [own.rendering, closest?.rendering];
  if (mine !== undefined && others !== undefined && (part === "tools" || part === "template")) {
    const tools = compareTools(mine.tools, others.tools);
    if (tools === "order" && part === "tools") return "tool_order";
    if (mine.template !== others.template) return "template_changed";
    if (tools === "others") return "tools";
  }
  return looksLike ?? part;
}

function compareTools(a: readonly unknown[], b: readonly unknown[]): "same" | "order" | "others" {
  const [mine, others] = [a, b].map((tools) => tools.map((tool) => JSON.stringify(tool)));
  if (mine?.join() === others?.join()) return "same";
  return mine?.toSorted().join() === others?.toSorted().join() ? "order" : "others";
}

function tokenJson(
  place: Place,
  position: number,
  id: number,
  rendering: Rendering | undefined,
): TokenExplanation {
  const message = "message" in place ? place.message : undefined;
  const role = message === undefined ? undefined : rendering?.messages[message]?.["role"];
  return {
    position,
    id,
    text: place.text,
    near: place.near,
    part: place.part,
    message: message ?? null,
    role: typeof role === "string" ? role : null,
    field: "field" in place ? place.field : null,
    offset: "offset" in place ? place.offset : null,
    looks_like: place.looksLike ?? null,
  };
}

function comparedJson({
  number,
  arrivedAt,
  commonTokens,
  isInAnswer,
  sameSalt,
}: Compared): NonNullable<PromptExplanation["closest"]> {
  return {
    request: number,
    arrived_at: arrivedAt / 1000,
    common_tokens: commonTokens,
    in_answer: isInAnswer,
    same_salt: sameSalt,
  };
}

function againstJson(
  tokenizer: Tokenizer,
  against: Compared,
): NonNullable<PromptExplanation["against"]> {
  const { otherTokenId: id } = against;
  const text = id === undefined ? "" : new TextDecoder().decode(tokenizer.writtenBytes(id));
  return { ...comparedJson(against), token: id === undefined ? null : { id, text } };
}
