import { describe, expect, test } from "bun:test";
import { KvEngineError } from "../../engine/errors.ts";
import { Grammars } from "../../engine/grammars.ts";
import type { CompiledGrammar, GrammarSource } from "../../engine/request.ts";
import { thrownBy } from "../support/thrown.ts";

const COMPILED: CompiledGrammar = { warnings: ["roughly"] };

/** Compiles at once, and counts. */
function counting(): { grammars: Grammars; compiled: string[] } {
  const compiled: string[] = [];
  const grammars = new Grammars(async ({ text }: GrammarSource) => {
    compiled.push(text);
    return { ...COMPILED };
  });
  return { grammars, compiled };
}

describe("compiled grammars", () => {
  test("one source is compiled once, and is there for its requests", async () => {
    const { grammars, compiled } = counting();
    const [first, second] = await Promise.all([
      grammars.compile({ text: "a" }),
      grammars.compile({ text: "a" }),
    ]);
    const third = await grammars.compile({ text: "a" });
    expect(compiled).toEqual(["a"]);
    expect([first.key, first.warnings]).toEqual([third.key, ["roughly"]]);
    expect(second).toEqual(third);
    expect(grammars.take({ key: first.key }).compiled).toEqual(COMPILED);
    expect((await grammars.compile({ text: "b" })).key).not.toBe(first.key);
  });

  test("of many, those that were used last are kept", async () => {
    const { grammars } = counting();
    const first = await grammars.compile({ text: "first" });
    const second = await grammars.compile({ text: "second" });
    for (let i = 0; i < 126; i++) await grammars.compile({ text: String(i) });
    grammars.take(first);
    await grammars.compile({ text: "one more" });
    expect(grammars.take(first).key).toBe(first.key);
    expect((await thrownBy(() => grammars.take(second))).code).toBe("unavailable");
  });

  test("what is refused is refused again, and leaves nothing", async () => {
    let tries = 0;
    const grammars = new Grammars(async () => {
      tries++;
      throw new KvEngineError("invalid_request", "no");
    });
    const compile = (): Promise<KvEngineError> => thrownBy(() => grammars.compile({ text: "a" }));
    expect((await Promise.all([compile(), compile()])).map(({ message }) => message)).toEqual([
      "no",
      "no",
    ]);
    expect((await compile()).message).toBe("no");
    expect(tries).toBe(2);
  });

  test("what takes too long is refused, and what waits behind it too", async () => {
    const grammars = new Grammars(() => Promise.withResolvers<CompiledGrammar>().promise, 1);
    const message = async (text: string): Promise<string> =>
      (await thrownBy(() => grammars.compile({ text }))).message;
    const texts = Array.from({ length: 68 }, (_, i) => String(i));
    const slow = texts.map(message);
    expect(await message("one more")).toBe("64 grammars wait to be compiled");
    expect(new Set(await Promise.all(slow))).toEqual(
      new Set(["it takes more than 0.001 s to compile"]),
    );
    // One that is under way is waited for again.
    expect(await message("0")).toBe("it takes more than 0.001 s to compile");
  });

  test("four are compiled at a time, the others in turn", async () => {
    const running: (() => void)[] = [];
    let most = 0;
    const grammars = new Grammars(async () => {
      const { promise, resolve } = Promise.withResolvers<void>();
      most = Math.max(most, running.push(resolve));
      await promise;
      return COMPILED;
    });
    const all = Array.from({ length: 10 }, (_, i) => grammars.compile({ text: String(i) }));
    let ended = 0;
    for (const one of all) {
      // The next one in turn begins as one ends.
      while (running.length === 0) await Promise.resolve();
      running.shift()?.();
      await one;
      ended++;
    }
    expect([ended, most]).toEqual([10, 4]);
  });
});
