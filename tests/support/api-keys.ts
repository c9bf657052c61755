/** API keys without limits. */

import type { ApiKey } from "../../engine/server/access/api-keys.ts";

export function apiKeys(...keys: readonly string[]): ApiKey[] {
  return keys.map((key, i) => ({ name: `key ${i + 1}`, key }));
}
