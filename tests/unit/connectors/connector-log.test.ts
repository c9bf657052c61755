import { expect, test } from "bun:test";
import { createConnectorLog } from "../../../engine/connectors/connector-log.ts";

let time = 0;
function logOf(lines: string[]): ReturnType<typeof createConnectorLog> {
  time = 0;
  return createConnectorLog(
    "mine",
    (level, line) => lines.push(`${level} ${line}`),
    () => time,
  );
}

test("a connector's lines carry its name and their level", () => {
  const lines: string[] = [];
  const log = logOf(lines);
  log.info("one");
  log.warn("two");
  log.error("three");
  expect(lines).toEqual([
    "info connector mine: one",
    "warn connector mine: two",
    "error connector mine: three",
  ]);
});

test("a line stays one line, and of a bearable length", () => {
  const lines: string[] = [];
  const log = logOf(lines);
  log.info("a\nerror: forged\u001B[31m");
  log.info("x".repeat(100_000));
  expect(lines[0]).toBe("info connector mine: a error: forged [31m");
  expect(lines[1]!.length).toBeLessThan(2100);
});

test("what is no text is shown as well as it can be", () => {
  const lines: string[] = [];
  const log = logOf(lines);
  for (const value of [7, undefined, { a: 1 }, null]) log.info(value as unknown as string);
  expect(lines.map((line) => line.slice("info connector mine: ".length))).toEqual([
    "7",
    "undefined",
    "an object",
    "null",
  ]);
});

test("too many lines at once are left out and counted; later ones come through", () => {
  const lines: string[] = [];
  const log = logOf(lines);
  for (let i = 0; i < 1000; i++) log.info(`line ${i}`);
  expect(lines).toHaveLength(50);
  time = 1000;
  for (let i = 0; i < 1000; i++) log.info(`later ${i}`);
  expect(lines.slice(50)).toEqual([
    "warn connector mine: 950 lines left out: too many at once",
    ...Array.from({ length: 5 }, (_, i) => `info connector mine: later ${i}`),
  ]);
});
