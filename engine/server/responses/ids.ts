/** Ids as OpenAI's clients know them: a prefix that says of what, and a random part. */

export function newId(prefix: "resp" | "msg" | "rs" | "fc"): string {
  return `${prefix}_${crypto.randomUUID().replaceAll("-", "")}`;
}
