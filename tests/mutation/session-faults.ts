/** Faults of sessions and of marked pins: content that is another's, that goes too soon, or that somebody else sees. */

import type { Fault } from "./plan.ts";

const FILES = "tests/native/sessions.test.ts";
const MOVED = "tests/connectors/moved-content.test.ts";

export const SESSION_FAULTS: readonly Fault[] = [
  {
    name: "damaged-page-taken",
    breaks: "a page of a session's file that is not what was written counts",
    file: "engine/connectors/sessions/import-session.ts",
    from: "new Set(result.cancelled ? some.keys() : result.failedPages)",
    to: "new Set<number>()",
    tests: [FILES],
  },
  {
    name: "session-of-another-model",
    breaks: "a session is read that another model has written",
    file: "engine/connectors/sessions/sessions.ts",
    from: "    checkModel(file.head, { ...model, fingerprint: await fingerprint() });\n",
    to: "    checkModel(file.head, { ...model, fingerprint: file.head.fingerprint });\n",
    tests: [FILES],
  },
  {
    name: "session-of-another-salt",
    breaks: "a session is read for requests that will never find it",
    file: "engine/connectors/sessions/sessions.ts",
    from: "if (head.cache_salt_sha256 !== saltDigest(query.cacheSalt)) {",
    to: "if (head.cache_salt_sha256 === undefined) {",
    tests: [FILES],
  },
  {
    name: "session-of-another-key",
    breaks: "one API key sees the sessions of another",
    file: "engine/connectors/sessions/known-sessions.ts",
    from: ".filter((session) => session.owner === owner);",
    to: ".filter((session) => session.owner !== undefined);",
    tests: [FILES],
  },
  {
    name: "session-beyond-a-gap",
    breaks: "a session's file goes on behind a block that is lost",
    file: "engine/connectors/sessions/export-session.ts",
    from: "    if (model.groups === 1 && there.length < wanted.length) break;\n",
    to: "",
    tests: [FILES],
  },
  {
    name: "thaw-that-nobody-waits-for",
    breaks: "what no block waits for does not come to a host page",
    file: "connectors/tiers/fetches.ts",
    from: "    if (fetch.hostUntil > this.#context.now()) return true;\n",
    to: "",
    tests: [MOVED],
  },
  {
    name: "thawed-page-cooled",
    breaks: "a session that was brought from a tier is the first to be forgotten",
    file: "connectors/tiers/fetches.ts",
    from: "if (!level.port.driving.promote && hostUntil === 0) this.#passing.add(key);",
    to: "if (!level.port.driving.promote) this.#passing.add(key);",
    tests: [MOVED],
  },
  {
    name: "shared-disk-pin-ended",
    breaks: "the end of one pin frees on the disk what another one keeps",
    file: "engine/connectors/disk-pins.ts",
    from: "filter((key) => !this.#pins.has(key))",
    to: "filter((key) => key !== undefined)",
    tests: ["tests/unit/connectors/disk-pins.test.ts"],
  },
  {
    name: "pin-renewed-to-an-earlier-end",
    breaks: "a request with a short mark ends what a longer one keeps",
    file: "engine/connectors/pins.ts",
    from: "Math.max(before, endsAt)",
    to: "endsAt",
    tests: ["tests/unit/connectors/retained.test.ts"],
  },
  {
    name: "mark-at-the-end-of-its-message",
    breaks: "a mark at a part pins what follows the part",
    file: "engine/server/cache-control.ts",
    from: "Math.min(part.end, part.start + offset)",
    to: "part.end",
    tests: ["tests/unit/server/cache-control.test.ts"],
  },
];
