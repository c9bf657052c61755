/** Token ids to text, piece by piece: tokens are bytes, and a character may span several of them. */

/** The bytes a token stands for; none for a control token. */
export interface TokenBytes {
  tokenBytes(id: number): Uint8Array;
}

/**
 * Incremental UTF-8 over a sequence's tokens. All texts it returns, joined, are the text of all bytes decoded at once:
 * a character is returned when its last byte has come, and bytes that are no UTF-8 become U+FFFD.
 */
export class Detokenizer {
  private readonly tokens: TokenBytes;
  private readonly decoder = newDecoder();

  constructor(tokens: TokenBytes) {
    this.tokens = tokens;
  }

  /** Text that these tokens complete. */
  push(ids: Iterable<number>): string {
    let text = "";
    for (const id of ids) text += this.decoder.decode(this.tokens.tokenBytes(id), { stream: true });
    return text;
  }

  /** What is left at the end of the sequence: U+FFFD for a character cut short, otherwise nothing. */
  flush(): string {
    return this.decoder.decode();
  }
}

/** The text of a whole sequence. */
export function decodeTokens(tokens: TokenBytes, ids: Iterable<number>): string {
  const detokenizer = new Detokenizer(tokens);
  return detokenizer.push(ids) + detokenizer.flush();
}

function newDecoder(): TextDecoder {
  // Generated text is no file: U+FEFF at its start is a character.
  return new TextDecoder("utf-8", { ignoreBOM: true });
}
