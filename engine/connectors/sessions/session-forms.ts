/** A session as others know it: what pins say of it, and the record that outlives the process. */

import { sha256 } from "../sha256.ts";
import type { Pin } from "../retained.ts";
import type { KnownSession } from "./known-sessions.ts";
import type { SessionRecord } from "./session-record.ts";
import type { SessionTools } from "./session-tools.ts";

type Clocks = Pick<SessionTools, "now" | "epochMs" | "model">;

export function pinOf({ name, owner, keys, tokenIds, endsAt = 0 }: KnownSession): Pin {
  // No name of a client's is a pin's id.
  const id = `session-${sha256(JSON.stringify([owner, name]))}`;
  return { id, owner, keys, numTokens: tokenIds.length, endsAt };
}

export function recordOf(session: KnownSession, { now, epochMs, model }: Clocks): SessionRecord {
  const { name, owner, tokenIds, saltDigest, keys, endsAt = now() } = session;
  const ofBlocks = keys.filter((_, i) => i % model.groups === 0);
  return {
    ...{ name, owner, tokenIds, saltDigest },
    keys: saltDigest === null ? undefined : ofBlocks,
    endsAt: epochMs() + endsAt - now(),
  };
}

/** The session of a record that was checked. */
export function sessionOf(
  { name, owner, tokenIds, saltDigest, keys: ofBlocks, endsAt }: SessionRecord,
  { now, epochMs, model, keysOf }: Clocks & Pick<SessionTools, "keysOf">,
): KnownSession {
  const groups = Array.from({ length: model.groups }, (_, group) => group);
  const keys =
    ofBlocks?.flatMap((key) => groups.map((group) => key.replace(/:0$/, `:${group}`))) ??
    keysOf(tokenIds, undefined);
  return { name, owner, tokenIds, saltDigest, keys, endsAt: now() + endsAt - epochMs() };
}
