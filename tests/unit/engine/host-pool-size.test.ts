import { expect, test } from "bun:test";
import { openHostPool } from "../../../engine/connectors/host-pool-size.ts";
import { KvEngineError } from "../../../engine/errors.ts";

const MIB = 2 ** 20;

/** What a machine with this much free memory opens, and the lines of the log. */
function open(size: number, availableMib: number, fits = Infinity): [pages: number, log: string[]] {
  const log: string[] = [];
  const pages = openHostPool(
    {
      size,
      pageBytes: MIB,
      memoryAvailable: () => availableMib * MIB,
      log: (level, line) => log.push(`${level}: ${line}`),
    },
    (numPages) => {
      if (numPages > fits) throw new KvEngineError("out_of_memory", `${fits} pages fit`);
      return numPages;
    },
  );
  return [pages, log];
}

test("the host pool is as large as asked for, or a quarter of the free memory", () => {
  expect(open(100 * MIB, 1000)).toEqual([100, []]);
  expect(open(0, 1000)).toEqual([250, []]);
  expect(open(872 * MIB, 1000)).toEqual([872, []]);
});

test("one that does not fit shrinks to what fits, and says so in one line", () => {
  const [pages, log] = open(873 * MIB, 1000);
  expect(pages).toBe(872);
  expect(log).toEqual([
    "warn: the host pool has 872 MiB (872 KV pages) instead of 873 MiB: no more memory is free; --kv-offload-size asks for less",
  ]);
});

test("memory that goes elsewhere meanwhile makes it smaller still, down to one page", () => {
  expect(open(800 * MIB, 1000, 250)[0]).toBe(200);
  expect(open(800 * MIB, 1000, 1)[0]).toBe(1);
  expect(() => open(800 * MIB, 1000, 0)).toThrow("0 pages fit");
});

test("other errors are not taken for a lack of memory", () => {
  const request = { size: MIB, pageBytes: MIB, memoryAvailable: () => 1e12, log: () => {} };
  expect(() =>
    openHostPool(request, () => {
      throw new KvEngineError("internal", "broken");
    }),
  ).toThrow("broken");
});
