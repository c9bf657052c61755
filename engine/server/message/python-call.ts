/** `f(a=1, b="x")`: a call as Python writes it. Arguments are told one by one, as they are whole. */

import type { CallReader } from "./call-reader.ts";
import { jsonOfPython } from "./python-literal.ts";

export class PythonCallReader implements CallReader {
  state: "open" | "whole" | "broken" = "open";
  name: string | undefined;
  args = "";
  #place: "name" | "key" | "value" = "name";
  #text = "";
  #key = "";
  #depth = 0;
  #quote = "";
  #escaped = false;
  #numArguments = 0;

  push(char: string): void {
    if (this.#place === "name") this.#pushName(char);
    else if (this.#place === "key") this.#pushKey(char);
    else this.#pushValue(char);
  }

  #pushName(char: string): void {
    if (char === "(") {
      this.name = this.#text.trim();
      this.args = "{";
      this.#begin("key");
      return;
    }
    this.#text += char;
    if (!/^[A-Za-z_][\w.]*\s*$/.test(this.#text)) this.state = "broken";
  }

  #pushKey(char: string): void {
    if (char === "=" && this.#text.trim() !== "") {
      this.#key = this.#text.trim();
      this.#begin("value");
      return;
    }
    if (char === ")" && this.#text.trim() === "") {
      this.args += "}";
      this.state = "whole";
      return;
    }
    this.#text += char;
    if (!/^\s*(?:[A-Za-z_]\w*\s*)?$/.test(this.#text)) this.state = "broken";
  }

  #pushValue(char: string): void {
    const isEnd = this.#quote === "" && this.#depth === 0 && (char === "," || char === ")");
    if (!isEnd) {
      this.#text += char;
      this.#follow(char);
      return;
    }
    const json = jsonOfPython(this.#text);
    if (json === undefined) {
      this.state = "broken";
      return;
    }
    this.args += `${this.#numArguments++ > 0 ? ", " : ""}${JSON.stringify(this.#key)}: ${json}`;
    this.#begin("key");
    if (char === ")") this.#pushKey(char);
  }

  /** Keeps track of quotes and brackets. */
  #follow(char: string): void {
    if (this.#quote !== "") {
      if (this.#escaped) this.#escaped = false;
      else if (char === "\\") this.#escaped = true;
      else if (char === this.#quote) this.#quote = "";
      return;
    }
    if (char === '"' || char === "'") this.#quote = char;
    else if ("[{(".includes(char)) this.#depth++;
    else if ("]})".includes(char)) this.#depth--;
  }

  #begin(place: "key" | "value"): void {
    this.#place = place;
    this.#text = "";
  }
}
