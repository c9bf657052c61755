import { describe, expect, test } from "bun:test";
import * as fc from "fast-check";
import { join } from "node:path";
import { type DataSource, openDataFile } from "../../../cli/bench/datasets/files/data-source.ts";
import { Fields } from "../../../cli/bench/datasets/files/fields.ts";
import {
  elements,
  lines,
  MAX_RECORD_BYTES,
  type RecordPlace,
  textOf,
} from "../../../cli/bench/datasets/files/records.ts";
import { KeptBytes, sampled } from "../../../cli/bench/datasets/files/sampling.ts";
import { propertyRuns } from "../../support/property-runs.ts";
import { temporaryFolder } from "../../support/temporary-folder.ts";
import { thrownBy } from "../../support/thrown.ts";
import { memorySource } from "../../support/workloads.ts";

/** Bytes that are read at a time. */
const PIECE = 256 * 1024;

type Reader = (source: DataSource) => Iterable<RecordPlace>;

function texts(read: Reader, content: string | Uint8Array): string[] {
  const source = memorySource("data", content);
  return [...read(source)].map((at) => textOf(source, at, `record ${at.number}`));
}

/** A file of any size that holds one byte again and again, after a beginning. */
function endless(start: string, byte: string): DataSource & { numRead: number } {
  const head = new TextEncoder().encode(start);
  return {
    name: "endless",
    size: 2 ** 40,
    numRead: 0,
    read(from, length) {
      this.numRead += length;
      const bytes = new Uint8Array(length).fill(byte.charCodeAt(0));
      if (from < head.length) bytes.set(head.subarray(from, from + length));
      return bytes;
    },
    close() {},
  };
}

describe("lines", () => {
  test("are what stands between line feeds, carriage returns before them aside, without empty ones", () => {
    const piece = fc.string({
      unit: fc.constantFrom("a", "é", "\n", "\r\n", "😀", " "),
      maxLength: 60,
    });
    fc.assert(
      fc.property(piece, (content) => {
        const expected = content
          .split("\n")
          .map((line, i, all) => (i < all.length - 1 ? line.replace(/\r$/, "") : line));
        expect(texts(lines, content)).toEqual(expected.filter((line) => line !== ""));
      }),
      propertyRuns(300),
    );
  });

  test("are the same wherever the file is cut into pieces", () => {
    for (let shift = -4; shift <= 4; shift++) {
      const first = "x".repeat(PIECE + shift);
      expect(texts(lines, `${first}\r\nsecond é\r\n\r\nlast`)).toEqual([first, "second é", "last"]);
    }
  });

  test("keep their numbers, and a byte order mark is none of them", () => {
    const source = memorySource("data", "\ufeffone\n\n\ntwo");
    expect([...lines(source)].map(({ number }) => number)).toEqual([1, 4]);
    expect(texts(lines, "\ufeffone\n\n\ntwo")).toEqual(["one", "two"]);
    expect(texts(lines, "")).toEqual([]);
  });

  test("without an end are refused before they fill the memory", async () => {
    for (const start of ["", "short\n"]) {
      const source = endless(start, "a");
      const error = await thrownBy(() => [...lines(source)]);
      expect(error.code).toBe("bad_config");
      expect(error.message).toContain(`more than 32 MiB in line ${start === "" ? 1 : 2}`);
      expect(source.numRead).toBeLessThan(MAX_RECORD_BYTES + 3 * PIECE);
    }
  });

  test("that are no UTF-8 are named", async () => {
    const bytes = Uint8Array.of(0x61, 0x0a, 0xff, 0xfe, 0x0a);
    const error = await thrownBy(() => texts(lines, bytes));
    expect(error.message).toBe("record 2: the text is not UTF-8");
  });
});

describe("elements of an array", () => {
  test("are those that JSON.parse finds", () => {
    fc.assert(
      fc.property(
        fc.array(fc.jsonValue(), { maxLength: 8 }),
        fc.integer({ min: 0, max: 3 }),
        (all, indent) => {
          const found = texts(elements, JSON.stringify(all, undefined, indent));
          expect(found.map((text) => JSON.parse(text) as unknown)).toEqual(
            JSON.parse(JSON.stringify(all)),
          );
        },
      ),
      propertyRuns(300),
    );
  });

  test("are the same wherever the file is cut into pieces", () => {
    const all = [String.raw`quote " backslash \ ] , [`, { "a]": ["\\"] }, 7];
    const json = JSON.stringify(all);
    for (let before = PIECE - json.length; before <= PIECE; before++)
      expect(
        texts(elements, " ".repeat(before) + json).map((text) => JSON.parse(text) as unknown),
      ).toEqual(all);
  });

  test("need an array that ends", async () => {
    const cases = {
      "": "is empty; it must be a JSON array",
      "  \n": "is empty; it must be a JSON array",
      '{"a":1}': "does not begin with [",
      "[1,2": "ends inside the array, after 1 elements: it was cut off",
      '[{"a":"b': "ends inside the array, after 0 elements",
    };
    for (const [content, message] of Object.entries(cases)) {
      const error = await thrownBy(() => texts(elements, content));
      expect([error.code, error.message]).toEqual(["bad_config", expect.stringContaining(message)]);
    }
  });

  test("without an end are refused before they fill the memory", async () => {
    for (const start of ["[", '["', "[{", "[[[["]) {
      const source = endless(start, "[");
      const error = await thrownBy(() => [...elements(source)]);
      expect(error.message).toContain("more than 32 MiB in element 1");
      expect(source.numRead).toBeLessThan(MAX_RECORD_BYTES + 3 * PIECE);
    }
  });

  test("end where the array ends", () => {
    expect(texts(elements, '[1, "two" , [3]]  trailing')).toEqual(["1", '"two" ', "[3]"]);
    expect(texts(elements, "[]")).toEqual([]);
  });
});

describe("fields", () => {
  const read = (json: string): Fields => new Fields("f.jsonl, line 3", json);

  test("say where they stand, what they are and what is allowed", async () => {
    const fields = read('{"n":"12","t":-1,"s":"","a":[1,2.5],"long":["' + "x".repeat(100) + '"]}');
    const cases: [() => unknown, string][] = [
      [() => fields.integer("n", 1, 9), 'n is "12"; allowed is an integer of 1 to 9'],
      [() => fields.integer("none", 1, 9), "none is missing; allowed is an integer of 1 to 9"],
      [() => fields.time("t"), "t is -1; allowed is a number of at least 0"],
      [() => fields.text("s"), 's is ""; allowed is a string that is not empty'],
      [() => fields.integers("a", 9), "a[1] is 2.5; allowed is an integer of 0 to 9"],
      [() => fields.integers("n", 9), 'n is "12"; allowed is an array of integers'],
      [() => fields.array("t"), "t is -1; allowed is an array"],
      [() => fields.integer("long", 0, 1), `long is ["${"x".repeat(58)}…; allowed`],
    ];
    for (const [call, message] of cases) {
      const error = await thrownBy(call);
      expect(error.code).toBe("bad_config");
      expect(error.message).toStartWith(`f.jsonl, line 3: ${message}`);
    }
  });

  test("keep within both ends", () => {
    const fields = read(`{"a":1,"b":9,"c":0,"d":10,"e":1.5,"f":${2 ** 53}}`);
    expect([fields.integer("a", 1, 9), fields.integer("b", 1, 9)]).toEqual([1, 9]);
    for (const name of ["c", "d", "e", "f"]) expect(() => fields.integer(name, 1, 9)).toThrow();
    expect(() => fields.integer("f", 0, Number.MAX_SAFE_INTEGER)).toThrow();
  });

  test("are those of an object", async () => {
    for (const json of ["", "{", "[]", "null", "7", '"text"', "{}x", "[".repeat(200_000)]) {
      const error = await thrownBy(() => read(json));
      expect(error.code).toBe("bad_config");
      expect(error.message).toStartWith("f.jsonl, line 3");
    }
    expect(read('{"__proto__":{"x":1}}').has("x")).toBe(false);
  });
});

describe("samples", () => {
  test("are all records, in an order that the seed gives, or in the file's", () => {
    const content = Array.from({ length: 50 }, (_, i) => `line ${i}\n`).join("");
    const order = (disableShuffle: boolean, seed: number): string[] => {
      const source = memorySource("data", content);
      const places = sampled(source, lines(source), { disableShuffle }, seed);
      return [...places].map((at) => textOf(source, at, ""));
    };
    const kept = content.trim().split("\n");
    expect(order(true, 1)).toEqual(kept);
    expect(order(false, 1)).toEqual(order(false, 1));
    expect(order(false, 1)).not.toEqual(order(false, 2));
    expect(order(false, 1)).not.toEqual(kept);
    expect(order(false, 1).toSorted()).toEqual(kept.toSorted());
  });

  test("of too many records to shuffle are refused, and taken in order", async () => {
    const source = endless("", "\n");
    function* many(): Generator<RecordPlace> {
      for (let number = 1; ; number++) yield { number, from: number, to: number + 1 };
    }
    const error = await thrownBy(() => [...sampled(source, many(), { disableShuffle: false }, 0)]);
    expect([error.message, error.hint]).toEqual([
      expect.stringContaining("more than 2000000 records"),
      expect.stringContaining("--disable-shuffle"),
    ]);
    const [first] = sampled(source, many(), { disableShuffle: true }, 0);
    expect(first?.number).toBe(1);
  });

  test("keep no more than a bound", async () => {
    const kept = new KeptBytes(memorySource("big.jsonl", ""));
    kept.add(2 ** 30);
    const error = await thrownBy(() => kept.add(1));
    expect(error.message).toBe("the prompts of big.jsonl need more than 1 GiB of memory");
    expect(error.hint).toContain("--num-prompts");
  });
});

describe("a data file", () => {
  const folder = temporaryFolder();

  test("is read in pieces, from any place", async () => {
    const path = join(folder, "data.txt");
    await Bun.write(path, "0123456789");
    const source = openDataFile(path);
    const read = (from: number, length: number): string =>
      new TextDecoder().decode(source.read(from, length));
    expect([source.size, source.name]).toEqual([10, path]);
    expect([read(0, 3), read(7, 3), read(8, 9), read(10, 4)]).toEqual(["012", "789", "89", ""]);
    source.close();
  });

  test("must be there and be a file", async () => {
    const missing = await thrownBy(() => openDataFile(join(folder, "none.jsonl")));
    expect([missing.code, missing.subject]).toEqual(["bad_config", "--dataset-path"]);
    expect(missing.message).toContain("none.jsonl cannot be read");
    const isFolder = await thrownBy(() => openDataFile(folder));
    expect(isFolder.message).toBe(`${folder} is not a file`);
  });
});
