/** How families of models write calls of tools. */

import { type CallReader, JsonCallReader, NamedCallReader } from "./call-reader.ts";
import { PythonCallReader } from "./python-call.ts";

export interface CallFormat {
  readonly name: string;
  /** Marks before calls. */
  readonly open: readonly string[];
  /** Marks that may stand behind them. */
  readonly close: readonly string[];
  /** Characters that may stand around and between calls, white space aside. */
  readonly between: string;
  /** Characters by which an answer may begin that is nothing but calls, without a mark. */
  readonly bare: string;
  /** A reader for the call that begins with this character; `undefined` = none does. `bare`: no mark said that it is one. */
  readonly begin: (char: string, bare: boolean) => CallReader | undefined;
  /** Ids that the family's own templates take back. */
  readonly newId: () => string;
}

const json = (char: string, bare: boolean): CallReader | undefined =>
  char === "{" ? new JsonCallReader(bare) : undefined;

export const CALL_FORMATS: readonly CallFormat[] = [
  {
    // Nous Hermes, Qwen 2.5 and 3.
    name: "hermes",
    open: ["<tool_call>"],
    close: ["</tool_call>"],
    between: ",[]",
    bare: "",
    begin: json,
    newId: () => `call_${randomText(24)}`,
  },
  {
    name: "mistral",
    open: ["[TOOL_CALLS]"],
    close: [],
    between: ",[]",
    bare: "",
    begin: (char, bare) =>
      json(char, bare) ?? (/[A-Za-z_]/.test(char) ? new NamedCallReader() : undefined),
    newId: () => randomText(9),
  },
  {
    // Llama 3.1 to 3.3.
    name: "llama3_json",
    open: ["<|python_tag|>"],
    close: [],
    between: ",;[]",
    bare: "{[",
    begin: json,
    newId: () => `call_${randomText(24)}`,
  },
  {
    // Llama 3.2 and 4, Gemma with a prompt for it.
    name: "pythonic",
    open: ["<|python_start|>"],
    close: ["<|python_end|>"],
    between: ",[]",
    bare: "[",
    begin: (char) => (/[A-Za-z_]/.test(char) ? new PythonCallReader() : undefined),
    newId: () => `call_${randomText(24)}`,
  },
  {
    // Whatever a model makes of the instructions in `tool-prompt.ts`.
    name: "json",
    open: ["<tool_call>", "```json", "```tool_call"],
    close: ["</tool_call>", "```"],
    between: ",;[]",
    bare: "{[",
    begin: json,
    newId: () => `call_${randomText(24)}`,
  },
];

/** By the marks that a chat template writes or asks for; the generic one where it knows no tools. */
export function callFormatOf(template: string): CallFormat {
  const name = TEMPLATE_SIGNS.find(([, sign]) => sign.test(template))?.[0] ?? "json";
  return callFormatNamed(name);
}

/** Throws for a name that is none of `CALL_FORMATS`. */
export function callFormatNamed(name: string): CallFormat {
  const format = CALL_FORMATS.find((one) => one.name === name);
  if (format === undefined) throw new Error(`there is no call format ${name}`);
  return format;
}

const TEMPLATE_SIGNS: readonly (readonly [format: string, sign: RegExp])[] = [
  ["hermes", /<tool_call>/],
  ["mistral", /\[TOOL_CALLS\]/],
  ["pythonic", /func_name1\(params_name1=|<\|python_start\|>/],
  ["llama3_json", /<\|python_tag\|>|"parameters": dictionary of argument name/],
];

const LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

function randomText(length: number): string {
  const numbers = crypto.getRandomValues(new Uint8Array(length));
  return Array.from(numbers, (number) => LETTERS[number % LETTERS.length]).join("");
}
