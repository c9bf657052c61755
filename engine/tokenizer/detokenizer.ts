/** Token ids to text, piece by piece: tokens are bytes, and a character may span several of them. */

/** What tokens stand for. */
export interface TokenBytes {
  /** None for a control token. */
  tokenBytes(id: number): Uint8Array;
  /** The same as text; `undefined` for a token that begins, ends or is invalid inside a character. See `wholeText`. */
  tokenText(id: number): string | undefined;
}

/**
 * Incremental UTF-8 over a sequence's tokens. All texts it returns, joined, are the text of all bytes decoded at once:
 * a character is returned when its last byte has come, and bytes that are no UTF-8 become U+FFFD.
 */
export class Detokenizer {
  readonly #tokens: TokenBytes;
  /** Made for the first token that needs it: most texts have none. */
  #decoder: TextDecoder | undefined;
  /** Whether the decoder may hold the beginning of a character. */
  #open = false;

  constructor(tokens: TokenBytes) {
    this.#tokens = tokens;
  }

  /** Text that these tokens complete. */
  push(ids: Iterable<number>): string {
    let text = "";
    for (const id of ids) {
      const whole = this.#tokens.tokenText(id);
      // A token without bytes may stand inside a character; any other whole text ends what came before it.
      if (whole === "") continue;
      text += whole === undefined ? this.#decode(id) : this.flush() + whole;
    }
    return text;
  }

  /** What is left at the end of the sequence: U+FFFD for a character cut short, otherwise nothing. */
  flush(): string {
    if (!this.#open) return "";
    this.#open = false;
    return this.#decoder?.decode() ?? "";
  }

  #decode(id: number): string {
    this.#open = true;
    this.#decoder ??= newDecoder({ fatal: false });
    return this.#decoder.decode(this.#tokens.tokenBytes(id), { stream: true });
  }
}

/** The text of a whole sequence. */
export function decodeTokens(tokens: TokenBytes, ids: Iterable<number>): string {
  const detokenizer = new Detokenizer(tokens);
  return detokenizer.push(ids) + detokenizer.flush();
}

/** The text of these bytes, where they are whole characters. */
export function wholeText(bytes: Uint8Array): string | undefined {
  try {
    return WHOLE.decode(bytes);
  } catch {
    return undefined; // no UTF-8 of its own
  }
}

function newDecoder({ fatal }: { readonly fatal: boolean }): TextDecoder {
  // Generated text is no file: U+FEFF at its start is a character.
  return new TextDecoder("utf-8", { ignoreBOM: true, fatal });
}

const WHOLE = newDecoder({ fatal: true });
