import { describe, expect, test } from "bun:test";
import { gbnfToLark, isGbnf } from "../../../../engine/server/structured/gbnf.ts";
import { thrownBy } from "../../../support/thrown.ts";

const larkOf = (grammar: string): string[] => gbnfToLark(grammar, "grammar").split("\n");

describe("GBNF", () => {
  test("is told from Lark by its sign", () => {
    expect(isGbnf('# a comment\nroot ::= "a"')).toBe(true);
    expect(isGbnf('start: "::="\n// root = "a"')).toBe(false);
  });

  test("rules, alternatives, groups and repetitions", () => {
    const grammar = `root ::= (greeting | "bye") ws-opt{2,3} x* # the end
      greeting ::= "hi" y+
        | "\\x48\\n\\u00e9" z?
      ws-opt ::=
      x ::= y{2} y{1,}
      y ::= [a-z]
      z ::= .`;
    expect(larkOf(grammar)).toEqual([
      "start: r_root",
      'r_root: (r_greeting | "bye") r_ws_m_opt{2,3} r_x*',
      'r_greeting: "hi" r_y+ | "H\\né" r_z?',
      'r_ws_m_opt: ""',
      "r_x: r_y{2} r_y{1,}",
      "r_y: /[a-z]/",
      "r_z: /[\\s\\S]/",
    ]);
  });

  test("sets: ranges, negation, and what means something else in a regular expression", () => {
    expect(larkOf("root ::= [^a-zA-Z0-9] [\\]\\\\-] [\\n\\t&&] [\\x41-\\x5A] [/^]")[1]).toBe(
      "r_root: /[^a-zA-Z0-9]/ /[\\x{5d}\\x{5c}-]/ /[\\x{a}\\x{9}\\x{26}\\x{26}]/ /[A-Z]/ /[\\x{2f}\\x{5e}]/",
    );
  });

  test("names that differ in case or signs stay different", () => {
    const names = larkOf("root ::= Aa a-a A-a\nAa ::= root\na-a ::= root\nA-a ::= root").slice(2);
    expect(new Set(names).size).toBe(3);
  });

  test.each([
    ["a ::= b", "a grammar with a rule root"],
    ["root ::= (a", ") in line 1"],
    ["root ::= a\n b ::= }", "a text, a set, a group or a rule in line 2"],
    ["root ::= a\n= b", "a text, a set, a group or a rule in line 2"],
    ["root a", "::= in line 1"],
    ['root ::= "\\U00ffffff"', "a character of Unicode in line 1"],
  ])("%j is refused", async (grammar, allowed) => {
    const { message, subject } = await thrownBy(() => gbnfToLark(grammar, "grammar"));
    expect([subject, message.endsWith(`allowed is ${allowed}`) ? allowed : message]).toEqual([
      "grammar",
      allowed,
    ]);
  });
});
