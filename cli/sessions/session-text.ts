/** Sessions as people read them, and as they are named on the command line. */

import type { SessionJson } from "../../engine/server/sessions/session-json.ts";

/** What ids of answers begin with. */
const ANSWER_ID = /^(?:chatcmpl-|cmpl-|resp_)/;

/** A session by its name, or an answer by its id. */
export function sessionField(name: string): { readonly id: string } | { readonly session: string } {
  return ANSWER_ID.test(name) ? { id: name } : { session: name };
}

/** A session a line. */
export function sessionLines(sessions: readonly SessionJson[]): string {
  if (sessions.length === 0) return "there are no sessions: requests name theirs by session_id";
  return sessions.map(sessionLine).join("\n");
}

function sessionLine(one: SessionJson): string {
  const { session, state, tokens, pages, found_tokens: found } = one;
  const places = [
    `${one.device_pages} on the device`,
    `${one.host_pages} in host memory`,
    `${one.disk_pages} on disk`,
  ];
  const loss = found < tokens ? `, ${found} of them found` : "";
  const head = `${session}  ${state}  ${tokens} tokens${loss} in ${pages} pages: ${places.join(", ")}`;
  if (one.expires_at === null) return head;
  const until = new Date(one.expires_at * 1000).toISOString();
  const restart = one.survives_restart ? ", after a restart too" : "";
  return `${head}, ${one.kept_pages} kept until ${until}${restart}`;
}
