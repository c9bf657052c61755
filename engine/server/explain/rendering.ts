/**
 * Which part of a conversation a place in its rendered prompt belongs to. The template is rendered once more with a mark in the place of
 * each text; what stands between two marks is the template's own. Only what fits the real prompt letter by letter counts.
 */

/** What a chat prompt was made of. */
export interface Rendering {
  readonly messages: readonly Readonly<Record<string, unknown>>[];
  readonly tools: readonly unknown[];
  /** Names the template and what else went into it, to tell whether two prompts have the same. */
  readonly template: string;
  /** The prompt of a conversation like this one. Throws what the template throws. */
  readonly render: (messages: Rendering["messages"], tools: readonly unknown[]) => string;
}

/** A part of the prompt, from `start` up to `end` in UTF-16 units. */
export type PromptPart = { readonly start: number; readonly end: number } & PartName;

export type PartName =
  | { readonly part: "message"; readonly message: number; readonly field: string }
  | { readonly part: "tools" }
  /** `message`: the next one, where there is one. */
  | { readonly part: "template"; readonly message?: number };

/** A text of the conversation. */
type Leaf = { readonly text: string } & Exclude<PartName, { readonly part: "template" }>;

/** Private-use characters around a number: no text of the conversation is likely to have them, and if one has nothing fits. */
const MARK = /\u{F0000}(\d+)\u{F0001}/gu;
const markOf = (number: number): string => `\u{F0000}${number}\u{F0001}`;

/** The parts of `prompt` from its start, as far as they are certain. */
export function partsOf(prompt: string, rendering: Rendering): PromptPart[] {
  const leaves: Leaf[] = [];
  const mark = (leaf: Leaf): string => markOf(leaves.push(leaf) - 1);
  const messages = rendering.messages.map((message, index) =>
    mapTexts(message, (text, path) =>
      // A role is what templates decide by.
      path === "role" ? text : mark({ text, part: "message", message: index, field: path }),
    ),
  );
  const tools = rendering.tools.map((tool) =>
    mapTexts(tool, (text) => mark({ text, part: "tools" })),
  );
  let marked: string;
  try {
    marked = rendering.render(messages as Rendering["messages"], tools);
  } catch {
    // A template may refuse what it does not know; then nothing is known.
    return [];
  }
  return align(prompt, marked.split(MARK), leaves);
}

/** `pieces`: template, number of a leaf, template, and so on. */
function align(prompt: string, pieces: readonly string[], leaves: readonly Leaf[]): PromptPart[] {
  const first = pieces[0] ?? "";
  if (!prompt.startsWith(first)) return [];
  const parts: PromptPart[] = [];
  let at = 0;
  let template = first;
  for (let i = 1; i < pieces.length; i += 2) {
    const leaf = leaves[Number(pieces[i])] as Leaf;
    const next = pieces[i + 1] ?? "";
    addTemplate(parts, at, at + template.length, leaf);
    at += template.length;
    const end = endOf(prompt, at, leaf.text, next, i + 2 >= pieces.length);
    if (end === undefined) return parts;
    const { text: _, ...name } = leaf;
    parts.push({ start: at, end, ...name });
    at = end;
    template = next;
  }
  parts.push({ start: at, end: at + template.length, part: "template" });
  return parts;
}

/** Between texts of tools the template writes their names and brackets. */
function addTemplate(parts: PromptPart[], start: number, end: number, next: Leaf): void {
  if (start === end) return;
  const isInTools = next.part === "tools" && parts.at(-1)?.part === "tools";
  if (isInTools) parts.push({ start, end, part: "tools" });
  else if (next.part === "tools") parts.push({ start, end, part: "template" });
  else parts.push({ start, end, part: "template", message: next.message });
}

/** Where a text that begins at `at` ends: whole, as JSON writes it, or a part of it where the template cuts it. */
function endOf(
  prompt: string,
  at: number,
  text: string,
  next: string,
  isLast: boolean,
): number | undefined {
  const follows = (end: number): boolean =>
    isLast ? prompt.slice(end) === next : prompt.startsWith(next, end);
  const forms = [text, JSON.stringify(text).slice(1, -1)];
  for (const form of forms)
    if (prompt.startsWith(form, at) && follows(at + form.length)) return at + form.length;
  // Without template text behind it nothing says where a part ends.
  if (next === "") return undefined;
  for (let end = prompt.indexOf(next, at); end >= 0; end = prompt.indexOf(next, end + 1)) {
    const piece = prompt.slice(at, end);
    if (!forms.some((form) => form.includes(piece))) return undefined;
    if (follows(end)) return end;
  }
  return undefined;
}

/** A copy with other texts: those that are not empty, at any depth. */
function mapTexts(value: unknown, map: (text: string, path: string) => string, path = ""): unknown {
  if (typeof value === "string") return value === "" ? value : map(value, path);
  if (Array.isArray(value)) return value.map((item) => mapTexts(item, map, path));
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value).map(([key, item]) => [
    key,
    mapTexts(item, map, path === "" ? key : `${path}.${key}`),
  ]);
  return Object.fromEntries(entries);
}
