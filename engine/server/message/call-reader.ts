/** Reads one call of a tool in the form of a family of models, a character at a time. */

import { JsonValueEnd, jsonOrUndefined } from "./json-value.ts";

export interface CallReader {
  /** `open`: more belongs to it; `whole`: the last character ended it; `broken`: this is no call. */
  readonly state: "open" | "whole" | "broken";
  /** Once it is known. */
  readonly name: string | undefined;
  /** The arguments so far, as JSON. */
  readonly args: string;
  push(char: string): void;
}

/** Names under which models write the arguments. */
const ARGUMENT_KEYS: readonly string[] = ["arguments", "parameters"];
/** What else may stand in a call where nothing marks it as one: any other key makes it an answer in JSON. */
const CALL_KEYS: readonly string[] = ["name", "type", "id", ...ARGUMENT_KEYS];

/** `{"name": "f", "arguments": {…}}`, the keys in any order. */
export class JsonCallReader implements CallReader {
  state: "open" | "whole" | "broken" = "open";
  name: string | undefined;
  args = "";
  /** Whether keys beyond a call's make it none. */
  readonly #strict: boolean;
  #want: "{" | "key" | "in key" | ":" | "value" | "in value" | "after" = "{";
  #value = new JsonValueEnd();
  #text = "";
  #key = "";

  constructor(strict: boolean) {
    this.#strict = strict;
  }

  push(char: string): void {
    switch (this.#want) {
      case "in key":
      case "in value":
        this.#inside(char);
        return;
      case "{":
        this.#want = "key";
        return;
      case "key":
        if (char === '"') this.#begin("in key", char);
        else if (char === "}") this.#end();
        else this.#space(char);
        return;
      case ":":
        if (char === ":") this.#want = "value";
        else this.#space(char);
        return;
      case "value":
        if (/\S/.test(char)) this.#begin("in value", char);
        return;
      case "after":
        if (char === ",") this.#want = "key";
        else if (char === "}") this.#end();
        else this.#space(char);
    }
  }

  #space(char: string): void {
    if (/\S/.test(char)) this.#break();
  }

  #begin(want: "in key" | "in value", char: string): void {
    this.#want = want;
    this.#value = new JsonValueEnd();
    this.#text = "";
    this.#inside(char);
  }

  #inside(char: string): void {
    const place = this.#value.push(char);
    if (place !== "after") this.#text += char;
    const inValue = this.#want === "in value";
    if (inValue && this.#isArguments && place !== "after" && this.#text[0] === "{")
      this.args += char;
    if (place === "more") return;
    if (inValue) this.#takeValue();
    else this.#takeKey();
    if (place === "after" && this.state === "open") this.push(char);
  }

  get #isArguments(): boolean {
    return ARGUMENT_KEYS.includes(this.#key);
  }

  #takeKey(): void {
    const key = jsonOrUndefined(this.#text);
    if (typeof key !== "string" || (this.#strict && !CALL_KEYS.includes(key))) {
      this.#break();
      return;
    }
    this.#key = key;
    this.#want = ":";
  }

  #takeValue(): void {
    this.#want = "after";
    if (this.#key !== "name" && !this.#isArguments) return;
    const value = jsonOrUndefined(this.#text);
    if (this.#key === "name") {
      if (typeof value === "string") this.name = value;
      else this.#break();
      return;
    }
    if (this.#text[0] === "{") return;
    // Some models write the arguments as a text of JSON.
    if (typeof value === "string" && value.trimStart().startsWith("{")) this.args = value;
    else if (value === null) this.args = "{}";
    else this.#break();
  }

  #end(): void {
    if (this.name === undefined) {
      this.#break();
      return;
    }
    if (this.args === "") this.args = "{}";
    this.state = "whole";
  }

  /** What was told of a call stays told. */
  #break(): void {
    this.state = "broken";
  }
}

/** `f{…}` and `f[ARGS]{…}`: Mistral's newer form. */
export class NamedCallReader implements CallReader {
  state: "open" | "whole" | "broken" = "open";
  name: string | undefined;
  args = "";
  #head = "";
  readonly #value = new JsonValueEnd();

  push(char: string): void {
    if (this.name === undefined) this.#pushHead(char);
    else this.#pushArgs(char);
  }

  #pushHead(char: string): void {
    if (char !== "{") {
      this.#head += char;
      if (!/^[\w.-]+\s*(?:\[|\[A|\[AR|\[ARG|\[ARGS|\[ARGS\]\s*)?$/.test(this.#head))
        this.state = "broken";
      return;
    }
    this.name = this.#head.replace(/\s*(?:\[ARGS\]\s*)?$/, "");
    this.#pushArgs(char);
  }

  #pushArgs(char: string): void {
    this.args += char;
    if (this.#value.push(char) === "last") this.state = "whole";
  }
}
